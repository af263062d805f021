"""Icon-13, the embedded suite: its images, its index and the code that reads them."""
