/* A span as a context manager in C: the least that a recorder could do there. `default_peers` compiles and uses it. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <structmember.h>
#include <time.h>

typedef struct {
    PyObject_HEAD
    PyObject *queue, *input, *output, *parent, *token;
    unsigned long long span_id;
    long long start_ns, end_ns;
} Span;

static PyObject *current; /* the context variable of the span that is open */
static unsigned long long state = 0x9e3779b97f4a7c15ULL;

static unsigned long long next_id(void) {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static long long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int span_init(Span *self, PyObject *arguments, PyObject *names) {
    PyObject *queue, *input;
    if (!PyArg_ParseTuple(arguments, "O!O", &PyList_Type, &queue, &input)) return -1;
    self->queue = Py_NewRef(queue);
    self->input = Py_NewRef(input);
    self->output = Py_NewRef(Py_None);
    self->span_id = next_id();
    return 0;
}

static void span_dealloc(Span *self) {
    Py_XDECREF(self->queue);
    Py_XDECREF(self->input);
    Py_XDECREF(self->output);
    Py_XDECREF(self->parent);
    Py_XDECREF(self->token);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *span_enter(Span *self, PyObject *unused) {
    if (PyContextVar_Get(current, Py_None, &self->parent) < 0) return NULL;
    self->token = PyContextVar_Set(current, (PyObject *)self);
    if (self->token == NULL) return NULL;
    self->start_ns = now_ns();
    return Py_NewRef((PyObject *)self);
}

static PyObject *span_exit(Span *self, PyObject *const *arguments, Py_ssize_t count) {
    self->end_ns = now_ns();
    if (PyContextVar_Reset(current, self->token) < 0) return NULL;
    Py_CLEAR(self->token);
    if (PyList_Append(self->queue, (PyObject *)self) < 0) return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"__enter__", (PyCFunction)span_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))span_exit, METH_FASTCALL, NULL},
    {NULL},
};

static PyMemberDef members[] = {
    {"output", T_OBJECT_EX, offsetof(Span, output), 0, NULL},
    {NULL},
};

static PyTypeObject span_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "benchmarks_floor.Span",
    .tp_basicsize = sizeof(Span),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)span_init,
    .tp_dealloc = (destructor)span_dealloc,
    .tp_methods = methods,
    .tp_members = members,
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "benchmarks_floor", NULL, -1, NULL};

PyMODINIT_FUNC PyInit_benchmarks_floor(void) {
    PyObject *module = PyModule_Create(&definition);
    current = PyContextVar_New("current", NULL);
    if (module == NULL || current == NULL || PyType_Ready(&span_type) < 0) return NULL;
    if (PyModule_AddObjectRef(module, "Span", (PyObject *)&span_type) < 0) return NULL;
    return module;
}
