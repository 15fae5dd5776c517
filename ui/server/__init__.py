"""What stands between the page and the world: API, limits, security, starting."""
