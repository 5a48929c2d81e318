//! P4 text to syntax tree: preprocessor, lexer, parser and the printer that turns a tree back into
//! text. It does no I/O and knows no names' meanings.

pub mod ast;
mod ast_decl;
