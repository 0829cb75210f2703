//! The house rules that a compiler does not know: folders are layers, no imports form a circle, and each driver is named
//! in one room.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The folders of `src`, from the top down. An import points down, or stays in its folder.
const LAYERS: &[&str] = &[
    "cli",
    "server",
    "http",
    "transport",
    "jobs",
    "import",
    "mail",
    "accounts",
    "providers",
    "outbound",
    "passwords",
    "repository",
    "config",
    "telemetry",
    "templates",
    "domain",
    "system",
];

/// Which folders may name each crate.
const DRIVERS: &[(&[&str], &[&str])] = &[
    (&["r2d2", "r2d2_sqlite", "scheduled_thread_pool"], &["repository"]),
    (&["rusqlite"], &["repository", "import"]),
    (&["argon2", "bcrypt", "md5", "pbkdf2", "scrypt", "sha1"], &["passwords"]),
    (&["hmac"], &["passwords", "domain"]),
    (&["tokio_postgres", "tokio_postgres_rustls", "deadpool", "deadpool_postgres"], &["repository"]),
    (&["lettre"], &["mail"]),
    (&["rustls_native_certs"], &["system"]),
    (&["tokio_rustls"], &["mail", "outbound", "repository", "system"]),
    (&["minijinja"], &["templates"]),
    (&["actix_web", "actix_http", "actix_server", "actix_service", "actix_cors"], &["http", "server"]),
    (&["actix_rt"], &["transport", "server", "main"]),
    (&["flate2"], &["http"]),
    (&["prometheus"], &["server", "telemetry"]),
    (&["hyper", "hyper_util", "http_body_util"], &["outbound"]),
    (&["jsonwebtoken"], &["providers"]),
    (&["toml", "humantime", "strsim"], &["config"]),
    (&["zeroize"], &["accounts", "config", "providers", "system"]),
    (&["url"], &["config", "outbound", "providers"]),
    (&["clap", "clap_complete", "clap_mangen"], &["cli", "main"]),
    (&["indicatif"], &["cli"]),
    (&["env_logger"], &["telemetry"]),
    (&["listenfd", "sd_notify"], &["server"]),
    (&["chrono", "icu_properties"], &["system"]),
    (&["tz"], &["import"]),
    (&["icu_normalizer"], &["domain"]),
    (&["utoipa"], &["http"]),
    (&["webauthn_rs", "serde_cbor_2"], &["accounts"]),
    (&["ipnet"], &["cli", "config", "http", "outbound"]),
];

/// A source file.
struct Source {
    path: PathBuf,
    /// Its module's path, such as `["http", "api", "user"]`.
    module: Vec<String>,
    /// Whether it is a `mod.rs`, `lib.rs` or `main.rs`, whose children stand beside it.
    is_folder: bool,
    /// Its code without comments and tests.
    code: String,
}

impl Source {
    fn read(path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {\n").next().unwrap();
        let code: String = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .fold(String::new(), |code, line| code + line + "\n");
        let below = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap().with_extension("");
        let mut module: Vec<_> = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let is_folder = ["mod", "lib", "main"].contains(&module.last().unwrap().as_str());
        if module.last().unwrap() == "mod" {
            module.pop();
        }
        Self { path, module, is_folder, code }
    }

    /// The folder of `src` that it is in, or its own name.
    fn room(&self) -> &str {
        &self.module[0]
    }

    /// The modules that it declares.
    fn children(&self) -> impl Iterator<Item = &str> {
        self.code.lines().filter_map(|line| {
            let declared = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ").strip_prefix("mod ")?;
            declared.strip_suffix(';')
        })
    }

    /// Every path that is imported, or named where it is used, from the top of the crate.
    fn imports(&self) -> Vec<Vec<String>> {
        let parent = self.module.len() - 1;
        let mut found = Vec::new();
        for (root, base) in [
            ("crate::", Vec::new()),
            ("super::super::", self.module[..parent.saturating_sub(1)].to_vec()),
            ("super::", self.module[..parent].to_vec()),
            ("self::", self.module.clone()),
        ] {
            for (at, _) in self.code.match_indices(root) {
                let before = self.code[..at].chars().next_back();
                if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                    continue;
                }
                read_tree(&self.code[at + root.len()..], &base, &mut found);
            }
        }
        // A child of a folder is named without a prefix, where it is imported and where it is used.
        if self.is_folder {
            for child in self.children() {
                let path = format!("{child}::");
                let named = self.code.match_indices(&path).map(|(at, _)| at);
                for at in named
                    .filter(|at| !self.code[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
                {
                    read_tree(&self.code[at..], &self.module, &mut found);
                }
            }
        }
        found
    }
}

/// Reads a tree of names such as `a::{b, c::D}`, and adds each of its paths behind `base`.
fn read_tree<'a>(mut text: &'a str, base: &[String], found: &mut Vec<Vec<String>>) -> &'a str {
    let mut path = base.to_vec();
    loop {
        text = text.trim_start();
        if let Some(mut rest) = text.strip_prefix('{') {
            loop {
                rest = read_tree(rest, &path, found).trim_start();
                match rest.strip_prefix(',') {
                    Some(next) if !next.trim_start().starts_with('}') => rest = next,
                    other => return other.unwrap_or(rest).trim_start().strip_prefix('}').unwrap_or(rest),
                }
            }
        }
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        path.push(text[..end].to_owned());
        text = &text[end..];
        let Some(next) = text.strip_prefix("::") else {
            found.push(path);
            let is_name = |c: char| c.is_alphanumeric() || c == '_';
            return text.trim_start().strip_prefix("as ").map_or(text, |alias| alias.trim_start_matches(is_name));
        };
        text = next;
    }
}

/// Every Rust file below a folder of the repository.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// Every source file, by its module's path.
fn sources() -> BTreeMap<Vec<String>, Source> {
    let read = |path| {
        let source = Source::read(path);
        (source.module.clone(), source)
    };
    let found: BTreeMap<_, _> = rust_files("src").into_iter().map(read).collect();
    assert!(found.len() > 40);
    found
}

/// Which file a path leads to: the longest beginning of it that is a module.
fn file_of<'a>(sources: &'a BTreeMap<Vec<String>, Source>, path: &[String]) -> Option<&'a Source> {
    (1..=path.len()).rev().find_map(|length| sources.get(&path[..length]))
}

#[test]
fn no_import_is_written_so_that_these_tests_do_not_see_it() {
    for source in sources().values() {
        for hidden in
            ["use crate as ", "{self as ", "crate::*", "#[path", "include!(", "crate ::", "crate::r#", "Actor as "]
        {
            assert!(!source.code.contains(hidden), "{} has {hidden}", source.path.display());
        }
    }
}

#[test]
fn an_import_points_down_the_list_of_layers_only() {
    let sources = sources();
    let depth = |room: &str| LAYERS.iter().position(|layer| *layer == room);
    for source in sources.values().filter(|source| !["lib", "main"].contains(&source.room())) {
        let own = depth(source.room()).unwrap_or_else(|| panic!("{} is in no layer", source.path.display()));
        for import in source.imports() {
            if let Some(imported) = file_of(&sources, &import) {
                let layer = depth(imported.room());
                assert!(layer >= Some(own), "{} imports {}", source.path.display(), import.join("::"));
            }
        }
    }
}

#[test]
fn no_imports_form_a_circle() {
    let sources = sources();
    let mut left: BTreeMap<&[String], BTreeSet<&[String]>> = BTreeMap::new();
    for source in sources.values() {
        let imported = source.imports();
        let imported = imported.iter().filter_map(|import| file_of(&sources, import));
        let others = imported.map(|imported| imported.module.as_slice()).filter(|module| *module != source.module);
        left.insert(&source.module, others.collect());
    }
    // What imports nothing that is left is in no circle.
    loop {
        let done: Vec<&[String]> =
            left.iter().filter(|(_, imports)| imports.is_empty()).map(|(module, _)| *module).collect();
        if done.is_empty() {
            break;
        }
        left.retain(|module, _| !done.contains(module));
        for imports in left.values_mut() {
            imports.retain(|module| !done.contains(module));
        }
    }
    // And what nothing imports that is left.
    loop {
        let wanted: BTreeSet<&[String]> = left.values().flatten().copied().collect();
        let before = left.len();
        left.retain(|module, _| wanted.contains(module));
        if left.len() == before {
            break;
        }
    }
    let left: Vec<String> = left
        .iter()
        .map(|(module, imports)| {
            let imports: Vec<_> = imports.iter().map(|module| module.join("::")).collect();
            format!("{} imports {}", module.join("::"), imports.join(", "))
        })
        .collect();
    assert!(left.is_empty(), "{}", left.join("\n"));
}

#[test]
fn each_driver_is_named_only_in_its_room() {
    for source in sources().values() {
        for (crates, rooms) in DRIVERS {
            for name in *crates {
                let code = &source.code;
                let is_named = code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == *name)
                    && (code.contains(&format!("{name}::")) || code.contains(&format!("use {name};")));
                assert!(!is_named || rooms.contains(&source.room()), "{} names {name}", source.path.display());
            }
        }
    }
}

#[test]
fn a_backend_is_named_where_a_store_is_opened_and_nowhere_else() {
    let sources = sources();
    let names = |source: &Source| {
        source.imports().iter().any(|import| import.starts_with(&["repository".to_owned(), "sqlite".to_owned()]))
    };
    let outside = sources.values().filter(|source| !source.module.iter().any(|part| part == "sqlite"));
    let naming: Vec<String> = outside.filter(|source| names(source)).map(|source| source.module.join("::")).collect();
    assert_eq!(naming, ["repository::open"]);
}

#[test]
fn only_the_command_line_acts_as_the_operator() {
    for source in sources().values() {
        let acts = source.code.contains("Actor::CommandLine");
        assert!(!acts || source.room() == "cli", "{} names Actor::CommandLine", source.path.display());
    }
}

#[test]
fn each_module_opens_by_saying_what_it_is_for() {
    for source in sources().values() {
        let text = fs::read_to_string(&source.path).unwrap();
        assert!(text.starts_with("//! "), "{}", source.path.display());
    }
}

#[test]
fn only_what_is_about_a_backend_names_it_in_the_tests() {
    // The list of modules, and where a store is chosen: so many lines each.
    let allowed = [("tests/api/main.rs", 2), ("tests/api/store.rs", 7), ("tests/repository/main.rs", 2)];
    let own = [
        "tests/api/sqlite/",
        "tests/api/postgres/",
        "tests/api/moving/",
        // The sources are files of these kinds.
        "tests/api/imports/sources.rs",
        "tests/repository/fixture.rs",
        "tests/repository/reaching.rs",
    ];
    let names_it = |line: &&str| {
        let is_sql = ["SELECT ", "INSERT INTO ", "DELETE FROM ", "PRAGMA "].iter().any(|word| line.contains(word));
        is_sql || ["sqlite", "postgres"].iter().any(|name| line.to_ascii_lowercase().contains(name))
    };
    for path in rust_files("tests/api").into_iter().chain(rust_files("tests/repository")) {
        let below = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().to_str().unwrap();
        if own.iter().any(|own| below.starts_with(own)) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let named: Vec<_> = text.lines().filter(names_it).collect();
        let most = allowed.iter().find(|(allowed, _)| *allowed == below).map_or(0, |(_, most)| *most);
        assert!(named.len() <= most, "{below} names it: {}", named.join("\n"));
    }
}
