//! The options of `import django`.

/// The options of this source alone.
#[derive(Clone, Default)]
#[expect(missing_docs, reason = "the names are those of the options")]
pub struct Options {
    pub user_table: Option<String>,
    pub profile_table: Option<String>,
    pub timezone: Option<String>,
    /// Which list is taken from which table or field.
    pub items: Vec<(String, String)>,
    pub no_rights: bool,
    pub no_tokens: bool,
    pub knox_hash: Option<String>,
}
