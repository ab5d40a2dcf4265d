"""Programs of the house: nothing here is part of the package."""
