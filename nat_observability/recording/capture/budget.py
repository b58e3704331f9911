"""What one capture may spend, and what it is charged for values of each kind."""

LARGE = 1024  # items or characters: anything larger may not use the reserve
TRIES = 2  # to encode a whole container at once; each failed one costs the time that it takes
MAX_DEPTH = 32
MAX_REPR = 1024  # characters
MAX_ITEMS = 1024  # of an array that is recorded in full
MAX_COLUMNS = 256

# Nodes, of `MAX_NODES`, by how long a value takes in comparison to a number in a list.
NODE_NS = 50
VALUE = 20
KEY = 15
PLAIN_CONTAINER = 6  # in one that is encoded at once
PLAIN_LEVEL = 40  # of containers in one another that are encoded at once
CONTAINER = 150
OBJECT = 100
MODEL = 500
SCATTERED = 3  # an item of a set or a view: it may be anywhere in memory, unlike those of most lists
SCANNED = 3  # a value in a model that is serialized at once
SCOPE = 1000
OPAQUE = 150  # a repr too
CONVERTED = 25  # into a text or a number
UNHASHED = 3500  # a class whose metaclass has no hash: what is known of it is found out each time
ESCAPED = 200  # lone surrogates in a text
LOOKED_THROUGH = 16  # characters of such a text, for each node
ESCAPES = 12  # bytes of a text of lone surrogates, for each node
CONTROLS = 6  # bytes of a text of control characters, for each node
TEXTS = 128  # bytes of an array of texts, for each node
GATHERED = 8  # bytes of a buffer that is not in one piece, for each node
CHARACTERS = 50  # of a repr, for each node: it is made in full, however little of it is kept
DIGITS = 20  # of a decimal number, for each node
DIGITS_WRITTEN = 8  # of numbers in a list, for each node
RAISED = 400
FAILED = 3500  # raised in the middle of our own code, whose frames are looked through for a signal handler's
FLOAT = 18  # bytes, of `MAX_BYTES`
BITS = 2  # of a long integer, for each node

# Code of the objects themselves is charged for the time that it takes, as nodes, if it is not quick; a call that has to
# wait, maybe for the interpreter, costs a part of all nodes, and all such calls together end the capture.
QUICK_NS = 20_000
SLOW_NS = 100_000_000
SLOW_CALLS = 10
