//! Pagination by cursor: a list that is read a page at a time.

/// A page of a list, and the cursor of the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, C> {
    /// The rows.
    pub rows: Vec<T>,
    /// The cursor to ask behind next, where there may be more rows. It is opaque: the store makes it and gets it back.
    pub next: Option<C>,
}
