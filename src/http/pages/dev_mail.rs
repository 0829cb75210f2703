//! The mails of a developer's machine, at `/dev/mail`: what the service has written to `[mail] folder` in the place of
//! sending it.
//!
//! They open accounts, so they are shown to the machine itself alone: the service listens on a loopback address, is reached
//! at one by its `server.public_url`, and knows of no proxy; the peer has a loopback address, no proxy has left a header, and
//! the browser was told to go to a loopback name. The last keeps away a page of somebody else whose name leads to 127.0.0.1
//! (DNS rebinding). A proxy that adds no header and has a loopback name as its `Host`, as nginx does by default, looks like
//! the machine itself: it is the settings that keep it away.

use std::fs;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use actix_web::http::header::{HOST, HeaderName};
use actix_web::{HttpRequest, HttpResponse, web};

use crate::http::error::ApiError;
use crate::http::pages::eml::{Mail, Summary};
use crate::http::pages::templates::Pages;
use crate::http::state::State;
use crate::system::blocking;

/// How many mails are listed.
const LISTED: usize = 100;
/// How much of a mail is read.
const MAX_SIZE: u64 = 256 * 1024;
/// What proxies add.
const FORWARDED: [HeaderName; 6] = [
    HeaderName::from_static("forwarded"),
    HeaderName::from_static("via"),
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-real-ip"),
];

pub(crate) async fn list(request: HttpRequest, state: State) -> Result<HttpResponse, ApiError> {
    let (pages, folder) = for_this_machine(&request, &state)?;
    let mails = on_the_disk(move || {
        let files = newest(&folder)?;
        // A mail may be deleted while they are read.
        let read = |file: String| read(&folder.join(&file)).ok().map(|mail| Summary::read(file, &mail));
        Ok(files.into_iter().take(LISTED).filter_map(read).collect::<Vec<_>>())
    });
    pages.list_mails(&mails.await?)
}

pub(crate) async fn show(
    request: HttpRequest,
    state: State,
    file: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let (pages, folder) = for_this_machine(&request, &state)?;
    let file = file.into_inner();
    let mail = on_the_disk(move || {
        // Only what is in the list, so that no path leads out of the folder.
        let is_there = newest(&folder)?.contains(&file);
        is_there.then(|| read(&folder.join(&file)).map(|mail| Mail::read(file, &mail))).transpose()
    });
    pages.show_mail(&mail.await?.ok_or(ApiError::NotFound)?)
}

/// The folder, where whoever asks may read it.
fn for_this_machine<'a>(request: &HttpRequest, state: &'a State) -> Result<(&'a Pages, PathBuf), ApiError> {
    let found = state.pages.as_ref().and_then(|pages| Some((pages, pages.dev_mail()?)));
    let (pages, folder) = found.filter(|_| is_from_this_machine(request)).ok_or(ApiError::NotFound)?;
    Ok((pages, folder.to_owned()))
}

fn is_from_this_machine(request: &HttpRequest) -> bool {
    let headers = request.headers();
    let mut hosts = headers.get_all(HOST);
    let host = hosts.next().and_then(|host| host.to_str().ok()).filter(|_| hosts.next().is_none());
    request.peer_addr().is_some_and(|peer| peer.ip().to_canonical().is_loopback())
        && !FORWARDED.iter().any(|name| headers.contains_key(name))
        && host.is_some_and(is_loopback_name)
}

/// Whether a `Host` is a loopback address or `localhost`, with or without a port.
fn is_loopback_name(host: &str) -> bool {
    let end = host.rfind(':').filter(|colon| host.rfind(']').is_none_or(|bracket| bracket < *colon));
    let name = &host[..end.unwrap_or(host.len())];
    let ip = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(name) => name.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        None => name.parse::<Ipv4Addr>().ok().map(IpAddr::from),
    };
    name.eq_ignore_ascii_case("localhost") || ip.is_some_and(|ip| ip.is_loopback())
}

async fn on_the_disk<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, ApiError> {
    let done = blocking::run(work).await.map_err(|error| ApiError::Internal(Box::new(error)))?;
    done.map_err(|error| ApiError::Internal(Box::new(error)))
}

/// The names of the mails, the newest first: they begin with the time.
fn newest(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().into_string().ok().filter(|name| is_mail(name));
        names.extend(name.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_file())));
    }
    names.sort_unstable_by(|one, other| other.cmp(one));
    Ok(names)
}

fn is_mail(name: &str) -> bool {
    let bare = name.strip_suffix(".eml").unwrap_or_default();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !bare.is_empty() && !bare.starts_with('.') && bare.bytes().all(is_plain)
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_SIZE).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_name_is_one_that_leads_nowhere_else() {
        for name in
            ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:80", "127.1.2.3:8000", "[::1]", "[::1]:8000"]
        {
            assert!(is_loopback_name(name), "{name}");
        }
        for name in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:8000",
            "127.1",
            "10.0.0.1",
            "[::2]:80",
            "::1",
            "localhost:80:80",
            "evil.example:127.0.0.1",
        ] {
            assert!(!is_loopback_name(name), "{name}");
        }
    }

    #[test]
    fn a_mail_has_a_plain_name() {
        for name in ["1.eml", "20150104T225135.144Z-0001.eml", "a_b-c.eml"] {
            assert!(is_mail(name), "{name}");
        }
        for name in ["", ".eml", "..eml", ".a.eml", "a/b.eml", "a.txt", "a.eml.tmp", "a b.eml", "é.eml", "a\\b.eml"] {
            assert!(!is_mail(name), "{name}");
        }
    }
}
