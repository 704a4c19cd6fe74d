//! What an access reads, refuses and gives back.
