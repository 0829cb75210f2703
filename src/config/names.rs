//! Unknown names: the error says which setting may have been meant, and which there are.

use crate::config::source::{ConfigError, Origin, Setting, Unknown, VARIABLE_PREFIX, VARIABLE_SEPARATOR, join};

/// By how many letters a part of a name may differ from the one that was meant, however long it is.
const MAX_SLIPS: usize = 2;

/// All sections, and whether each is a list.
pub(super) type Sections = Vec<(&'static str, bool)>;

/// All names.
pub(super) struct Names<'a> {
    sections: &'a Sections,
    /// Each section and each key by which a setting can be given, once, in their order.
    all: Vec<(&'a str, String)>,
}

impl<'a> Names<'a> {
    pub(super) fn new(settings: &'a [Setting], sections: &'a Sections) -> Self {
        let mut all: Vec<(&str, String)> = Vec::new();
        for setting in settings {
            for key in [Some(setting.key.to_owned()), setting.is_secret.then(|| file_key(setting.key))] {
                all.extend(key.map(|key| (setting.section, key)).filter(|name| !all.contains(name)));
            }
        }
        Self { sections, all }
    }

    /// The error for an unknown name.
    pub(super) fn refuse(&self, Unknown { name, origin }: Unknown) -> ConfigError {
        let meant = match origin {
            Origin::Variable(_) => {
                let meant = self.nearest(&name, |name| !self.is_in_list(name));
                meant.map(|name| VARIABLE_PREFIX.to_owned() + &name.replace('.', VARIABLE_SEPARATOR).to_uppercase())
            }
            _ => self.nearest(&name, |_| true),
        };
        let known = match (meant, self.contents(&name)) {
            (None, Some(contents)) => contents,
            (None, None) => format!("the sections are {}", self.all_sections()),
            (Some(meant), Some(contents)) => format!("did you mean {meant}? {contents}"),
            (Some(meant), None) => format!("did you mean {meant}? The sections are {}", self.all_sections()),
        };
        ConfigError::Unknown { origin, name: name.trim_matches('.').to_owned(), known }
    }

    /// The nearest name: one that was mistyped, or the same key in another section.
    fn nearest(&self, name: &str, may_be: impl Fn(&str) -> bool) -> Option<String> {
        let settings = self.all.iter().map(|(section, key)| join(section, key));
        let sections = self.sections.iter().map(|(section, _)| (*section).to_owned());
        let names: Vec<String> = settings.chain(sections).filter(|known| known != name && may_be(known)).collect();
        let nearest = names.iter().filter_map(|known| Some((slips(known, name)?, known))).min();
        let mut elsewhere = names.iter().filter(|known| name.contains('.') && last_part(known) == last_part(name));
        let elsewhere = elsewhere.next().filter(|_| elsewhere.next().is_none());
        nearest.map(|(_, known)| known).or(elsewhere).cloned()
    }

    fn is_in_list(&self, name: &str) -> bool {
        self.sections.iter().any(|(section, is_list)| *is_list && is_in(section, name))
    }

    /// What the section of a name holds, if there is such a section: settings, and sections inside of it.
    fn contents(&self, name: &str) -> Option<String> {
        let around = self.sections.iter().filter(|(section, _)| is_in(section, name));
        let (section, is_list) = *around.max_by_key(|(section, _)| section.len())?;
        let keys = self.all.iter().filter(|(known, _)| *known == section).map(|(_, key)| key.clone());
        let is_inside = |name: &str| name.rsplit_once('.').is_some_and(|(outside, _)| outside == section);
        let inside = self.sections.iter().filter(|(name, _)| is_inside(name)).map(|(name, list)| header(name, *list));
        let contents: Vec<String> = keys.chain(inside).collect();
        Some(format!("{} has {}", header(section, is_list), contents.join(", ")))
    }

    fn all_sections(&self) -> String {
        self.sections.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }
}

/// Whether a name is a section's, or that of something in it.
fn is_in(section: &str, name: &str) -> bool {
    name.strip_prefix(section).is_some_and(|key| key.is_empty() || key.starts_with('.'))
}

/// The edit distance of two names, where it is small enough for each part.
fn slips(known: &str, name: &str) -> Option<usize> {
    let (known, name): (Vec<_>, Vec<_>) = (known.split('.').collect(), name.split('.').collect());
    let slips = known.iter().zip(&name).map(|(known, name)| {
        let slips = strsim::damerau_levenshtein(known, name);
        (slips <= (known.len() / 3).clamp(1, MAX_SLIPS)).then_some(slips)
    });
    slips.sum::<Option<usize>>().filter(|_| known.len() == name.len())
}

/// How a file writes the beginning of a section.
pub(crate) fn header(section: &str, is_list: bool) -> String {
    if is_list { format!("[[{section}]]") } else { format!("[{section}]") }
}

/// The key that names the file of a secret.
pub(super) fn file_key(key: &str) -> String {
    format!("{key}_file")
}

pub(super) fn last_part(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(_, last)| last)
}
