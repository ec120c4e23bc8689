"""The analytical model: components, each with its sizes, composed into units and priced without synthesis."""
