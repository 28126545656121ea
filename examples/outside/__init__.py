"""Systems that are not Affiant's: publish predictions made elsewhere, follow what is recorded. Made for copying."""
