//! Templates: compiled into the binary, and each may be overridden by a file of the same name in a folder, for other words
//! or another language.
//!
//! All are parsed at the start, so that a broken one is a sentence for the operator and never a failed answer. What is
//! named `.html` escapes every value that it shows; a value that nobody gives is an error.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;
use thiserror::Error;

/// Why templates are refused: a sentence for the operator.
#[derive(Debug, Error)]
pub enum TemplateError {
    /// A file or the folder cannot be read.
    #[error("the template {} cannot be read: {source}", path.display())]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file overrides nothing.
    #[error("{} overrides no template; there are {known}", path.display())]
    Unknown {
        /// Which one.
        path: PathBuf,
        /// The names that there are.
        known: String,
    },
    /// It cannot be understood, or asks for a value that there is none of.
    #[error("the template {name} is broken: {why}")]
    Broken {
        /// Which one.
        name: String,
        /// Why, without any value.
        why: String,
    },
}

/// A set of templates, which may extend and include each other, and of style sheets, which are taken as they are.
pub struct Templates {
    environment: Environment<'static>,
    styles: BTreeMap<&'static str, String>,
}

impl Templates {
    /// Takes the templates that are built in, each with the file of its name in `folder` in its place where there is one.
    /// The folder need not exist.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn load(built_in: &[(&'static str, &'static str)], folder: Option<&Path>) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        let mut styles = BTreeMap::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        if let Some(folder) = folder {
            refuse_unknown(built_in, folder)?;
        }
        for (name, text) in built_in {
            let overridden = folder.map(|folder| read(&folder.join(name))).transpose()?.flatten();
            let text = overridden.unwrap_or_else(|| (*text).to_owned());
            if is_style(name) {
                styles.insert(*name, text);
            } else {
                environment.add_template_owned(*name, text).map_err(|error| broken(name, &error))?;
            }
        }
        Ok(Self { environment, styles })
    }

    /// A style sheet; empty where there is none of this name.
    #[must_use]
    pub fn style(&self, name: &str) -> &str {
        self.styles.get(name).map_or("", String::as_str)
    }

    /// Renders one of them.
    ///
    /// # Errors
    /// [`TemplateError::Broken`].
    pub fn render(&self, name: &str, values: &impl Serialize) -> Result<String, TemplateError> {
        let template = self.environment.get_template(name).map_err(|error| broken(name, &error))?;
        template.render(Serde(values)).map_err(|error| broken(name, &error))
    }
}

/// A file's text; `None` where there is no such file.
fn read(path: &Path) -> Result<Option<String>, TemplateError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TemplateError::Unreadable { path: path.to_owned(), source }),
    }
}

/// Refuses a folder with a file that overrides nothing: its name is mistyped.
fn refuse_unknown(built_in: &[(&str, &str)], folder: &Path) -> Result<(), TemplateError> {
    let unreadable = |source| TemplateError::Unreadable { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unreadable(error)),
    };
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name();
        let is_known = built_in.iter().any(|(known, _)| name == *known);
        // An editor's back-up copies are nobody's mistake.
        let is_copy = name.to_string_lossy().starts_with('.') || name.to_string_lossy().ends_with('~');
        if !is_known && !is_copy {
            let known = built_in.iter().map(|(known, _)| *known).collect::<Vec<_>>().join(", ");
            return Err(TemplateError::Unknown { path: entry.path(), known });
        }
    }
    Ok(())
}

fn is_style(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "css")
}

/// What is wrong with a template, without any value. An error in one that another includes is told of the former.
fn broken(name: &str, mut error: &minijinja::Error) -> TemplateError {
    while let Some(cause) = error.source().and_then(|cause| cause.downcast_ref()) {
        error = cause;
    }
    let name = error.name().unwrap_or(name).to_owned();
    let parts = [
        error.line().map(|line| format!("line {line}")),
        Some(error.kind().to_string()),
        error.detail().map(str::to_owned),
    ];
    TemplateError::Broken { name, why: parts.into_iter().flatten().collect::<Vec<_>>().join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILT_IN: &[(&str, &str)] = &[("a.html", "<p>{{ x }}</p>"), ("a.txt", "{{ x }}"), ("a.css", "a{{#}")];

    fn with(files: &[(&str, &str)]) -> Result<Templates, TemplateError> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Templates::load(BUILT_IN, Some(folder.path()))
    }

    #[test]
    fn a_file_overrides_the_template_of_its_name_and_html_alone_is_escaped() {
        let values = serde_json::json!({"x": "<b>"});
        let templates = with(&[("a.txt", "Hallo {{ x }}")]).unwrap();
        assert_eq!(templates.render("a.html", &values).unwrap(), "<p>&lt;b&gt;</p>");
        assert_eq!(templates.render("a.txt", &values).unwrap(), "Hallo <b>");
        assert_eq!(templates.style("a.css"), "a{{#}");
        assert_eq!(with(&[("a.css", "{%")]).unwrap().style("a.css"), "{%");
        assert!(Templates::load(BUILT_IN, Some(Path::new("/nonexistent"))).is_ok());
    }

    #[test]
    fn what_is_broken_mistyped_or_unreadable_is_refused_by_name() {
        for (files, sentence) in [
            (("a.html", "{% if %}"), "the template a.html is broken: line 1, syntax error, unexpected end of block"),
            (("b.html", ""), "b.html overrides no template; there are a.html, a.txt, a.css"),
        ] {
            let refused = with(&[files]).err().unwrap().to_string();
            assert!(refused.ends_with(sentence), "{refused}");
        }
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a.html")).unwrap();
        assert!(matches!(Templates::load(BUILT_IN, Some(folder.path())), Err(TemplateError::Unreadable { .. })));
        let templates = with(&[("a.html", "{{ y }}")]).unwrap();
        assert!(templates.render("a.html", &serde_json::json!({"x": 1})).is_err());
    }
}
