"""One module for each form of dataset; each says whether a path is of its form and reads it into a draft."""
