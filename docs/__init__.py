"""The documentation: Markdown pages, and the script that writes the generated ones."""
