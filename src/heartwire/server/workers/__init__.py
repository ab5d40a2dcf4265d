"""`heartwire serve --workers N`: a parent, its workers, and the store process that they share."""
