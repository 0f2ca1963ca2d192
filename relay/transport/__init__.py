"""TLS connections on the reactor: OpenSSL on the socket itself, one record a unit, backpressure, ends as Halibut makes them."""
