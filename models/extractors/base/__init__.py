"""What every extractor shares: the contract, sampling, precision and batches."""
