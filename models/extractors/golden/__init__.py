"""Known outputs of every extractor on a fixed input, and how far an output is from them."""
