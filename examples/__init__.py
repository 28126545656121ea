"""What Affiant does, shown: `loan` runs the whole loop on decisions, `outside` joins in from other systems."""
