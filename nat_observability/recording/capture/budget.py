"""What one capture may spend, and what it is charged for values of each kind."""

LARGE = 1024  # items or characters: anything larger may not use the reserve
TRIES = 2  # to encode a whole container at once; each failed one costs the time that it takes
MAX_DEPTH = 32
MAX_REPR = 1024  # characters
MAX_ITEMS = 1024  # of an array that is recorded in full
MAX_COLUMNS = 256

# Nodes, of `MAX_NODES`, by how long a value takes in comparison to a number in a list: one is about 100 ns.
VALUE = 10
KEY = 6
PLAIN = 10  # a container that is encoded at once
CONTAINER = 30
OBJECT = 50
MODEL = 200
OPAQUE = 60  # a repr too
RAISED = 200
FAILED = 1000  # raised in the middle of our own code, whose frames are looked through for a signal handler's
# Bytes, of `MAX_BYTES`, of a number among others, which is not encoded to find out.
FLOAT = 18
NUMBER = 6
BITS = 8  # of a long integer, for each node
