//! A list that is read a page at a time.

/// Some rows of a list, and where it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, C> {
    /// The rows.
    pub rows: Vec<T>,
    /// What to ask for next, where there may be more: made by the store, and given back as it is.
    pub next: Option<C>,
}
