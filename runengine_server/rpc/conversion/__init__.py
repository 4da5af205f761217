"""Between the wire's messages and the domain's values; requests are checked for what the domain cannot hold."""
