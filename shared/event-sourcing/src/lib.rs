//! Deciders: pure decisions over folded events, with given/when/then for their tests.
