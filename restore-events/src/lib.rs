//! What the engine tells its screens and what they tell it.
