"""
Arithmetic on **planes**: 256 numbers at once, stored bit by bit.

A plane holds one bit of each of 256 numbers; a number is a stack of planes, the lowest first, at an
address. These are pieces of machine code for linkage.matching.kernel, without a check of anything.
No instruction set is asked for: LLVM writes 256-bit operations for AVX2 and pairs of smaller ones
elsewhere. numba does not see a change of this file: remove `__pycache__` after one.

Sources: carry-save counting of bits, Harley and Seal, in Warren, Hacker's Delight, 2nd ed. 2013,
section 5-1; two full adders in 8 operations, Demenkov, Kojevnikov, Kulikov and Yaroslavtsev 2010,
doi:10.1016/j.ipl.2010.07.007.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

TILE = 256
"""Numbers in a plane."""

_WORD = ir.IntType(64)
_PLANE = ir.VectorType(_WORD, TILE // 64)


class _Code:
    """Writes LLVM code on planes at an address."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def at(self, address: Any, plane: Any) -> Any:
        """Return a pointer to plane number `plane` (an int or an LLVM value) after `address`."""
        number = ir.Constant(_WORD, plane) if isinstance(plane, int) else plane
        base = self.builder.inttoptr(address, _PLANE.as_pointer())
        return self.builder.gep(base, [number])

    def load(self, address: Any, plane: Any) -> Any:
        value = self.builder.load(self.at(address, plane))
        value.align = 8
        return value

    def store(self, value: Any, address: Any, plane: Any) -> None:
        self.builder.store(value, self.at(address, plane)).align = 8

    def add(self, a: Any, b: Any, c: Any) -> tuple[Any, Any]:
        """Return sum and carry of three planes."""
        b_ = self.builder
        half = b_.xor(a, b)
        return b_.xor(half, c), b_.or_(b_.and_(a, b), b_.and_(half, c))

    def add_pairs(self, z: Any, first: Any, second: Any) -> tuple[Any, Any]:
        """
        Return the sum of z and two pairs of planes, and its pair of carries.

        A pair (x, p) stands for the planes x and x ^ p, so that carries go on as they come: two
        full adders in 8 operations instead of 10.
        """
        b_ = self.builder
        (x, p), (y, q) = first, second
        half = b_.xor(z, p)
        both = b_.or_(b_.xor(x, z), p)
        left = b_.and_(b_.xor(y, half), b_.not_(q))
        return b_.xor(half, q), (b_.xor(both, half), b_.xor(both, left))

    def loop(self, first: Any, last: Any, carry: Any, body: Any) -> Any:
        """Run carry = body(number, carry) for numbers first <= number < last; return the carry."""
        b_ = self.builder
        before = b_.block
        test, inside, after = (b_.append_basic_block(name) for name in ("test", "in", "after"))
        b_.branch(test)
        b_.position_at_end(test)
        number, value = b_.phi(_WORD), b_.phi(_PLANE)
        number.add_incoming(first, before)
        value.add_incoming(carry, before)
        b_.cbranch(b_.icmp_unsigned("<", number, last), inside, after)
        b_.position_at_end(inside)
        new = body(number, value)
        number.add_incoming(b_.add(number, ir.Constant(_WORD, 1)), b_.block)
        value.add_incoming(new, b_.block)
        b_.branch(test)
        b_.position_at_end(after)
        return value


def _adder(count: int, *, fresh: bool) -> Any:
    """
    Return code(planes, positions, number, depth): add `count` listed planes to a number.

    fresh: the number is 0, whatever lies there.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        planes, positions, number, depth = arguments
        code = _Code(builder)
        listed = builder.inttoptr(positions, ir.IntType(16).as_pointer())

        def before(level: Any) -> Any:
            return ir.Constant(_PLANE, None) if fresh else code.load(number, level)

        def plane(index: int) -> Any:
            position = builder.load(builder.gep(listed, [ir.Constant(_WORD, index)]))
            return code.load(planes, builder.zext(position, _WORD))

        # sums[l]: the plane of 2^l. Written as they change, so that few are alive at a time.
        sums: dict[int, Any] = {}

        def pair(level: int, first: int) -> tuple[Any, Any]:
            """Return the carries into 2^level of the 2 * 2^level listed planes from `first`."""
            if level == 0:
                x = plane(first)
                return x, builder.xor(x, plane(first + 1))
            below = level - 1
            one, other = pair(below, first), pair(below, first + (2 << below))
            if below not in sums:
                sums[below] = before(below)
            sums[below], (carry, both) = code.add_pairs(sums[below], one, other)
            return carry, both

        levels = count.bit_length() - 1
        x, p = pair(levels - 1, 0)
        top = before(levels - 1)
        sums[levels - 1] = builder.xor(top, p)
        carry = builder.xor(builder.and_(builder.xor(x, top), p), x)
        for level, value in sums.items():
            code.store(value, number, level)

        def ripple(level: Any, carry: Any) -> Any:
            old = before(level)
            code.store(builder.xor(old, carry), number, level)
            return builder.and_(old, carry)

        code.loop(ir.Constant(_WORD, levels), depth, carry, ripple)
        return context.get_dummy_value()

    def signed(typing_context: Any, planes: Any, positions: Any, number: Any, depth: Any) -> Any:
        return types.void(types.uint64, types.uint64, types.uint64, types.uint64), generate

    return intrinsic(signed)


first_32, add_32 = _adder(32, fresh=True), _adder(32, fresh=False)
first_16, add_16 = _adder(16, fresh=True), _adder(16, fresh=False)
first_8, add_8 = _adder(8, fresh=True), _adder(8, fresh=False)


@intrinsic
def assign(typing_context: Any, number: Any, value: Any, depth: Any) -> Any:
    """Set a number to `value` in all 256 places."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number, value, depth = arguments
        code = _Code(builder)

        def plane(level: Any, carry: Any) -> Any:
            bit = builder.trunc(builder.lshr(value, level), ir.IntType(1))
            word = builder.sext(bit, _WORD)
            spread = ir.Constant(_PLANE, ir.Undefined)
            for lane in range(TILE // 64):
                spread = builder.insert_element(spread, word, ir.Constant(ir.IntType(32), lane))
            code.store(spread, number, level)
            return carry

        code.loop(ir.Constant(_WORD, 0), depth, ir.Constant(_PLANE, None), plane)
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64, types.uint64), generate


@intrinsic
def add(typing_context: Any, a: Any, b: Any, into: Any, more: Any, fewer: Any) -> Any:
    """Store a + b; a has `more` planes, b `fewer`, the sum one more than a."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b, into, more, fewer = arguments
        code = _Code(builder)

        def full(level: Any, carry: Any) -> Any:
            value, carry = code.add(code.load(a, level), code.load(b, level), carry)
            code.store(value, into, level)
            return carry

        def half(level: Any, carry: Any) -> Any:
            old = code.load(a, level)
            code.store(builder.xor(old, carry), into, level)
            return builder.and_(old, carry)

        none = ir.Constant(_PLANE, None)
        carry = code.loop(ir.Constant(_WORD, 0), fewer, none, full)
        code.store(code.loop(fewer, more, carry, half), into, more)
        return context.get_dummy_value()

    one = types.uint64
    return types.void(one, one, one, one, one), generate


@intrinsic
def reaches(typing_context: Any, a: Any, b: Any, into: Any, top: Any, fewer: Any) -> Any:
    """Store plane `top` of a + b (a has one more, b `fewer` planes); return whether any is set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b, into, top, fewer = arguments
        code = _Code(builder)

        def full(level: Any, carry: Any) -> Any:
            one, other = code.load(a, level), code.load(b, level)
            return builder.or_(
                builder.and_(one, other), builder.and_(builder.or_(one, other), carry)
            )

        def half(level: Any, carry: Any) -> Any:
            return builder.and_(code.load(a, level), carry)

        none = ir.Constant(_PLANE, None)
        carry = code.loop(ir.Constant(_WORD, 0), fewer, none, full)
        reached = builder.or_(code.loop(fewer, top, carry, half), code.load(a, top))
        code.store(reached, into, 0)
        words = [builder.extract_element(reached, ir.Constant(ir.IntType(32), w)) for w in range(4)]
        any_ = builder.or_(builder.or_(words[0], words[1]), builder.or_(words[2], words[3]))
        return any_

    one = types.uint64
    return types.uint64(one, one, one, one, one), generate


@intrinsic
def popcount(typing_context: Any, word: Any) -> Any:
    """Count the ones of a uint64 by the CPU's own instruction (LLVM ctpop)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@intrinsic
def trailing(typing_context: Any, word: Any) -> Any:
    """Return the number of the lowest one of a uint64 that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate
