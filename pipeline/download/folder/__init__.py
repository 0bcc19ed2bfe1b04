"""Videos from a folder of the user, used where they lie."""
