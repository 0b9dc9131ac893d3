"""``Consumer``, ``Producer`` and ``DynamoDBClient``: the interface that code from before Haulage uses."""
