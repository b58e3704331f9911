"""What one capture may spend, and what it is charged for values of each kind."""

LARGE = 1024  # items or characters: anything larger may not use the reserve
TRIES = 2  # to encode a whole container at once; each failed one costs the time that it takes
MAX_DEPTH = 32
MAX_REPR = 1024  # characters
MAX_ITEMS = 1024  # of an array that is recorded in full
MAX_COLUMNS = 256

# Nodes, of `MAX_NODES`, by how long a value takes in comparison to a number in a list: one is about 50 ns.
VALUE = 20
KEY = 15
PLAIN_CONTAINER = 15  # a container that is encoded at once
CONTAINER = 90
OBJECT = 100
MODEL = 500
OPAQUE = 150  # a repr too
CHARACTERS = 50  # of a repr, for each node: it is made in full, however little of it is kept
RAISED = 400
FAILED = 2000  # raised in the middle of our own code, whose frames are looked through for a signal handler's
# Bytes, of `MAX_BYTES`, of a number among others, which is not encoded to find out.
FLOAT = 18
NUMBER = 6
BITS = 3  # of a long integer, for each node
