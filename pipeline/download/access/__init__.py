"""How a source may be asked: its settings, cookies, rate limit and connectivity."""
