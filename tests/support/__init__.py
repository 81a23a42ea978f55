"""What the tests of several folders need: servers, databases, buckets, a browser."""
