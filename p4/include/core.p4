// The P4_16 core library: what every program may rely on, whatever its target.
// Names, types and meaning are those of the language specification (sections "P4 core library" and
// 13.8); the packet methods are carried out by the target, not written in P4.

#ifndef _CORE_P4_
#define _CORE_P4_

/// What can go wrong in a parser. A program may add to these.
error {
    NoError,               // nothing went wrong
    PacketTooShort,        // fewer bits left than an extract needs
    NoMatch,               // no case of a select fits
    StackOutOfBounds,      // a header stack has no such element
    HeaderTooShort,        // a varbit field is too narrow for the length asked of it
    ParserTimeout,         // the parser took too long
    ParserInvalidArgument  // an argument that the target can't carry out
}

/// The packet that comes in, with a cursor.
extern packet_in {
    /// Fills a header of fixed size, makes it valid, and moves the cursor behind it.
    /// Errors: PacketTooShort, StackOutOfBounds.
    void extract<T>(out T hdr);
    /// The same for a header with one varbit field, which gets as many bits as the second argument says.
    /// Errors: PacketTooShort, StackOutOfBounds, HeaderTooShort.
    void extract<T>(out T variableSizeHeader, in bit<32> variableFieldSizeInBits);
    /// Reads what lies ahead and leaves the cursor where it is.
    T lookahead<T>();
    /// Moves the cursor over that many bits.
    void advance(in bit<32> sizeInBits);
    /// The packet's length in bytes. Not every target knows it.
    bit<32> length();
}

/// The packet that goes out.
extern packet_out {
    /// Appends a header if it is valid; a stack, union or struct is appended element by element.
    void emit<T>(in T hdr);
}

/// In a parser: when `check` is false, sets the parser's error and goes to the state `reject`.
extern void verify(in bool check, in error toSignal);

/// The action that leaves everything as it is.
@noWarn("unused")
action NoAction() {}

/// How a table's key may be compared. Architectures add to these.
match_kind {
    exact,    // equal in every bit
    ternary,  // equal where the entry's mask has ones
    lpm       // the longest prefix wins
}

/// Stops the compilation with `message` when `check`, known at compile time, is false; gives back true,
/// so that it can be the value of a constant.
extern bool static_assert(bool check, string message);

/// The same with a message of the compiler's own.
extern bool static_assert(bool check);

#endif  // _CORE_P4_
