"""Every highlight model of the papers: one paper a file, one contract, one table."""
