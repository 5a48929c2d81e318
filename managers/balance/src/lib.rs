//! The balance manager: chooses a server for each connection.
