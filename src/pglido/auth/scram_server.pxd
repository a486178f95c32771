cimport cython

from pglido.auth.decoys cimport mock_digest, mock_salt
from pglido.auth.scram cimport Derivations, Keys, base64, digest, sign, unbase64
from pglido.protocol cimport octets

cdef int KEY_SIZE, AUTH_SASL_CONTINUE, AUTH_SASL_FINAL
cdef int N, P, R, M, A, C, Y, EQUALS, COMMA
cdef int OFFERED, HELD_BACK, CHALLENGED
cdef int MAX_MESSAGE
cdef unsigned int HELD
cdef bytes END_POINT, SCRAM, SCRAM_PLUS
cdef bytes LETTER, PRINTABLE, BASE64, NAME_OF_BINDING, NO_KEY, OFFER, OFFER_PLUS, HEAD

cdef bytes sasl(int code, bytes data)

@cython.locals(at=Py_ssize_t)
cdef bint consists(bytes data, Py_ssize_t start, Py_ssize_t stop, bytes letters) noexcept

cdef bint begins(bytes data, Py_ssize_t start, Py_ssize_t stop, int letter) noexcept

@cython.locals(at=Py_ssize_t)
cdef bint extends(bytes data, Py_ssize_t start, Py_ssize_t stop, int taken) except -1

cdef class ScramTerms:
    cdef public object population
    cdef public long long iterations
    cdef public object rng
    cdef public bytes seed

cdef class ScramServer:
    cdef str _user
    cdef public object secret
    cdef public ScramTerms terms
    cdef bytes _binding
    cdef long long _iterations
    cdef int _state
    cdef bint _plus
    cdef bytes _gs2
    cdef bytes _bare
    cdef bytes _nonce
    cdef bytes _salt
    cdef bytes _first
    cdef public object credentials
    cdef public bint swift
    cdef public bytes last

    cpdef bytes offer(self)

    @cython.locals(first=bytes)
    cpdef bytes take(self, bytes body)

    @cython.locals(end=Py_ssize_t, have=Py_ssize_t, size="long long", mechanism=bytes)
    cdef bytes _initial_response(self, bytes body)

    @cython.locals(client_nonce=bytes, digest=bytes)
    cdef bytes _challenge(self, bytes first)

    @cython.locals(size=Py_ssize_t, flag=Py_ssize_t, identity=Py_ssize_t, at=Py_ssize_t, name=Py_ssize_t, nonce=Py_ssize_t, extended=bint, bound=bint, offers=bint)
    cdef bytes _read_first(self, bytes body)

    @cython.locals(unproved=bytes, proof=bytes, auth_message=bytes, stored_key=bytes, server_key=bytes, kept=Derivations, derived_now=bint, client_key=bytes, signature=bytes)
    cdef bytes _end(self, bytes body)

    @cython.locals(size=Py_ssize_t, binding=Py_ssize_t, nonce=Py_ssize_t, last=Py_ssize_t, bound=bint, expected=bytes, proof=bytes)
    cdef tuple _read_final(self, bytes body)
