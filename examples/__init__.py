"""What Affiant does, shown: `loan` runs the whole loop on a table of decisions, `outside` joins in from other systems."""
