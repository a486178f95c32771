"""What the tests of whole processes share: servers, poolers, raw clients, proxies, certificates."""
