"""What several tests share: tiny models and data, servers, processes."""
