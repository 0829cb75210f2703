//! Templates: compiled into the binary, and each may be overridden by a file of the same name in a folder, for other words
//! or another language.
//!
//! All are parsed at the start, so that a broken one is a sentence for the operator and never a failed answer. What is
//! named `.html` escapes every value that it shows; a value that nobody gives is an error. A line that has a statement
//! alone leaves no line.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, Error as EngineError, Output, State, UndefinedBehavior, escape_formatter};
use serde::Serialize;
use thiserror::Error;

use crate::system::small_file;

/// The largest file that overrides a template, in bytes.
const MAX_SIZE: u64 = 256 * 1024;

/// How many instructions a template may take: far more than any, and few enough that loops in loops end at once.
const FUEL: u64 = 1_000_000;

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
    /// A file is larger than any template is.
    #[error("the template {} is larger than 256 KiB", path.display())]
    TooLarge {
        /// Which one.
        path: PathBuf,
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
    #[error("the template {name} is broken: {}{why}", line.map(|line| format!("line {line}, ")).unwrap_or_default())]
    Broken {
        /// Which one.
        name: String,
        /// Where in it.
        line: Option<usize>,
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
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn load(built_in: &[(&'static str, &'static str)], folder: Option<&Path>) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        let mut styles = BTreeMap::new();
        // A name that there is none of is an error, in the place of an empty text that nobody notices.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_formatter(write_value);
        environment.set_fuel(Some(FUEL));
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build();
        environment.set_syntax(syntax.map_err(|error| broken("", &error))?);
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

/// Writes a value, in HTML so that it is text there and in an attribute. The engine itself would write each slash of a link
/// as `&#x2f;`, which some mail programs show.
fn write_value(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), EngineError> {
    match value.as_str() {
        Some(text) if *state.auto_escape() == AutoEscape::Html && !value.is_safe() => Ok(out.write_str(&escape(text))?),
        _ => escape_formatter(out, state, value),
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A file's text; `None` where there is no such file.
fn read(path: &Path) -> Result<Option<String>, TemplateError> {
    let unreadable = |source| TemplateError::Unreadable { path: path.to_owned(), source };
    let bytes = match small_file::read(path, MAX_SIZE) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            return Err(TemplateError::TooLarge { path: path.to_owned() });
        }
        Err(error) => return Err(unreadable(error)),
    };
    let text = String::from_utf8(bytes).map_err(|_| unreadable(io::Error::other("it is not UTF-8")))?;
    // Some editors begin a file with a byte order mark.
    Ok(Some(text.trim_start_matches('\u{feff}').replace("\r\n", "\n")))
}

/// Refuses a folder with a file that is named as a template is and overrides none: its name is mistyped. Others, such as a
/// README, an editor's back-up copies and folders, are nobody's mistake.
fn refuse_unknown(built_in: &[(&str, &str)], folder: &Path) -> Result<(), TemplateError> {
    let unreadable = |source| TemplateError::Unreadable { path: folder.to_owned(), source };
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().unwrap_or_default();
        let is_known = built_in.iter().any(|(known, _)| name == *known);
        let is_hidden = name.to_string_lossy().starts_with('.');
        let is_a_template = path
            .extension()
            .is_some_and(|extension| built_in.iter().any(|(known, _)| Path::new(known).extension() == Some(extension)));
        if is_a_template && !is_known && !is_hidden {
            let known = built_in.iter().map(|(known, _)| *known).collect::<Vec<_>>().join(", ");
            return Err(TemplateError::Unknown { path, known });
        }
    }
    Ok(())
}

fn is_style(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "css")
}

/// What is wrong with a template, without any value. An error in one that another includes is told of the former.
fn broken(name: &str, mut error: &EngineError) -> TemplateError {
    while let Some(cause) = error.source().and_then(|cause| cause.downcast_ref()) {
        error = cause;
    }
    let name = error.name().unwrap_or(name).to_owned();
    let kind = error.kind().to_string();
    let why = error.detail().map_or_else(|| kind.clone(), |detail| format!("{kind}, {detail}"));
    TemplateError::Broken { name, line: error.line(), why }
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
        for nobodys_mistake in ["README.md", "a.html~", ".a.html", ".#a.html", "a.html.orig"] {
            assert!(with(&[(nobodys_mistake, "{% if %}")]).is_ok(), "{nobodys_mistake}");
        }
    }

    #[test]
    fn a_line_with_a_statement_alone_leaves_no_line_whoever_ended_it() {
        let shown =
            |text: &str| with(&[("a.txt", text)]).unwrap().render("a.txt", &serde_json::json!({"x": 1})).unwrap();
        assert_eq!(shown("a\n  {% if x %}\nb {{ x }}\n  {% endif %}\n\nc\n"), "a\nb 1\n\nc\n");
        assert_eq!(shown("a\r\n{% if x %}\r\nb\r\n{% endif %}\r\n"), "a\nb\n");
    }

    #[test]
    fn a_link_is_text_of_html_and_no_slash_of_it_is_disguised() {
        let templates = with(&[("a.html", "<a href=\"{{ x }}\">")]).unwrap();
        let values = serde_json::json!({"x": "https://a.example/?a=1&b='<\">"});
        assert_eq!(
            templates.render("a.html", &values).unwrap(),
            "<a href=\"https://a.example/?a=1&amp;b=&#39;&lt;&quot;&gt;\">"
        );
        assert_eq!(templates.render("a.html", &serde_json::json!({"x": 1})).unwrap(), "<a href=\"1\">");
    }

    #[test]
    fn a_file_is_neither_waited_for_nor_read_without_end_and_no_template_runs_without_end() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/zero", folder.path().join("a.html")).unwrap();
        let refused = Templates::load(BUILT_IN, Some(folder.path())).err().unwrap().to_string();
        assert!(refused.ends_with("cannot be read: it is not a file"), "{refused}");
        let loops = "{% for a in range(9000) %}{% for b in range(9000) %}{% endfor %}{% endfor %}";
        let templates = with(&[("a.txt", loops)]).unwrap();
        assert!(matches!(templates.render("a.txt", &serde_json::json!({"x": 1})), Err(TemplateError::Broken { .. })));
        let templates = with(&[("a.txt", "\u{feff}{{ x }}")]).unwrap();
        assert_eq!(templates.render("a.txt", &serde_json::json!({"x": 1})).unwrap(), "1");
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
        assert!(matches!(
            Templates::load(BUILT_IN, Some(Path::new("/nowhere"))),
            Err(TemplateError::Unreadable { .. })
        ));
        let size = usize::try_from(MAX_SIZE).unwrap();
        assert!(with(&[("a.html", &" ".repeat(size))]).is_ok());
        let refused = with(&[("a.html", &" ".repeat(size + 1))]).err().unwrap().to_string();
        assert!(refused.ends_with("a.html is larger than 256 KiB"), "{refused}");
        let templates = with(&[("a.html", "{{ y }}")]).unwrap();
        assert!(templates.render("a.html", &serde_json::json!({"x": 1})).is_err());
    }
}
