//! The pages about accounts, and what they are made from: templates that a folder may override, one style and one script.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::config::Config;
use crate::config::mail::{Transport, is_on_this_machine};
use crate::domain::token::hex;
use crate::http::error::ApiError;
use crate::http::pages::eml::{Mail, Piece, Summary};
use crate::templates::{TemplateError, Templates};

/// Every template, by its name in the folder.
macro_rules! built_in {
    ($($name:literal,)*) => {
        const BUILT_IN: &[(&str, &str)] = &[$(($name, include_str!(concat!("templates/", $name))),)*];
    };
}

built_in! {
    "layout.html",
    "errors.html",
    "fields.html",
    "reset.html",
    "confirm.html",
    "login.html",
    "not_me.html",
    "error.html",
    "dev_mail_list.html",
    "dev_mail.html",
    "page.css",
}

/// The style, which is no template but may be overridden as they are.
const STYLE: &str = "page.css";

/// The script, which is ours alone: it handles tokens.
pub(crate) const SCRIPT: &str = include_str!("templates/page.js");

/// A page about an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    Reset,
    Confirm,
    SignIn,
    NotMe,
}

impl Page {
    const ALL: [Self; 4] = [Self::Reset, Self::Confirm, Self::SignIn, Self::NotMe];

    /// What follows `/account/`.
    const fn path(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Confirm => "confirm",
            Self::SignIn => "login",
            Self::NotMe => "not-me",
        }
    }

    const fn template(self) -> &'static str {
        match self {
            Self::Reset => "reset.html",
            Self::Confirm => "confirm.html",
            Self::SignIn => "login.html",
            Self::NotMe => "not_me.html",
        }
    }
}

/// What a page shows.
#[derive(Clone, Copy, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    /// Its form, for whoever opens it.
    #[default]
    Start,
    /// The form with the link's token in it.
    Link,
    /// That a mail is on its way, and a form for its code.
    Asked,
    /// That it is done.
    Done,
}

/// What is wrong with a form. The template has the sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    /// Neither an address nor a username.
    Account,
    /// Neither a code nor a link.
    Proof,
    /// The code or the link is worth nothing.
    Wrong,
    /// A code without the request id that it belongs to.
    CodeAlone,
    /// A code that counts in the app alone.
    CodeInApp,
    PasswordMissing,
    PasswordShort,
    PasswordCommon,
    /// The address is another account's by now.
    Taken,
    TooMany,
    Busy,
    /// The form itself cannot be read.
    Form,
    Internal,
}

impl Fault {
    const ALL: [Self; 13] = [
        Self::Account,
        Self::Proof,
        Self::Wrong,
        Self::CodeAlone,
        Self::CodeInApp,
        Self::PasswordMissing,
        Self::PasswordShort,
        Self::PasswordCommon,
        Self::Taken,
        Self::TooMany,
        Self::Busy,
        Self::Form,
        Self::Internal,
    ];

    /// What a page says of an error that is not the form's.
    fn of(error: &ApiError) -> Self {
        match error {
            ApiError::TooManyRequests { .. } => Self::TooMany,
            ApiError::Unavailable { .. } => Self::Busy,
            error if error.is_of_the_client() => Self::Form,
            _ => Self::Internal,
        }
    }
}

/// What differs from one showing of a page to the next.
#[derive(Clone, Default, Serialize)]
pub(crate) struct Shown {
    pub(crate) state: Step,
    pub(crate) error: Option<Fault>,
    /// What was typed to say whose account it is.
    pub(crate) account: String,
    /// The request id, which only this page knows.
    pub(crate) request: String,
    /// The code, the link or its token, as it was typed.
    pub(crate) proof: String,
    /// After how many minutes to try again.
    pub(crate) wait: u64,
}

impl Shown {
    /// A page's form anew, with what is wrong.
    pub(crate) fn of(fault: Fault) -> Self {
        Self { error: Some(fault), ..Self::default() }
    }
}

/// All that the template of a page is given.
#[derive(Serialize)]
struct Values<'a> {
    service: &'a str,
    base: &'a str,
    version: &'a str,
    page: &'static str,
    min_length: usize,
    app_link: Option<&'a str>,
    #[serde(flatten)]
    shown: &'a Shown,
}

/// All that the templates of the developer's mails are given.
#[derive(Serialize)]
struct MailValues<'a> {
    service: &'a str,
    base: &'a str,
    version: &'a str,
    error: Option<Fault>,
    mails: &'a [Summary],
    mail: Option<&'a Summary>,
    pieces: &'a [Piece],
}

/// The pages, where mail is on.
pub struct Pages {
    templates: Templates,
    /// The style.
    style: Bytes,
    /// Changes with the style and the script, so that a browser does not use a cached one of another release.
    version: String,
    /// Who the pages are of: the sender's name, or the host of `server.public_url`.
    service: String,
    /// The origin of `server.public_url`, as browsers send it.
    origin: String,
    /// The path of `server.public_url`, without a slash at its end.
    base: String,
    min_length: usize,
    /// Where the page of a sign-in leads on; `None` where no app is configured.
    app_link: Option<String>,
    /// The folder of the mails, where a developer may read them.
    dev_mail: Option<PathBuf>,
}

impl Pages {
    /// The pages of this configuration, of a server that listens at `ip`; `None` where mail is off. Each page is rendered
    /// once, so that a template that asks for a value that there is none of is refused at the start.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn new(config: &Config, ip: IpAddr) -> Result<Option<Self>, TemplateError> {
        let Some(public_url) = config.server.public_url.as_deref().filter(|_| config.sends_mail()) else {
            return Ok(None);
        };
        let folder = config.mail.templates.as_deref().map(|folder| folder.join("pages"));
        // It need not be there. One that cannot even be looked for is left to the loader, which says so.
        let folder = folder.filter(|folder| folder.try_exists().unwrap_or(true));
        let templates = Templates::load(BUILT_IN, folder.as_deref())?;
        let style = templates.style(STYLE).to_owned();
        let (origin, base) = split(public_url);
        let host = origin.split_once("://").map_or(origin, |(_, host)| host);
        let sender = config.mail.from.as_ref().and_then(|sender| sender.name.clone());
        // A proxy that tells nothing of itself is not seen in a request. Who has one has named it, or the service's address.
        let is_read_here = config.mail.transport == Transport::Folder
            && ip.to_canonical().is_loopback()
            && is_on_this_machine(public_url)
            && config.server.trusted_proxies.is_empty();
        let pages = Self {
            templates,
            version: hex(&Sha256::new().chain_update(&style).chain_update(SCRIPT).finalize()[..8]),
            style: style.into(),
            service: sender.unwrap_or_else(|| host.to_owned()),
            origin: origin.to_owned(),
            base: base.to_owned(),
            min_length: config.password.min_length,
            app_link: config.mail.app_links.first().map(|link| format!("{}/login", link.trim_end_matches('/'))),
            dev_mail: is_read_here.then(|| config.mail.folder.clone()),
        };
        pages.try_each()?;
        Ok(Some(pages))
    }

    /// Checks the templates of the pages, as the start does.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn check(config: &Config) -> Result<(), TemplateError> {
        Self::new(config, config.server.listen.ip()).map(drop)
    }

    /// The origin that the pages are of, as browsers send it.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    pub(crate) fn style(&self) -> Bytes {
        self.style.clone()
    }

    pub(crate) fn dev_mail(&self) -> Option<&Path> {
        self.dev_mail.as_deref()
    }

    /// A page.
    pub(crate) fn show(&self, page: Page, shown: &Shown) -> Result<HttpResponse, ApiError> {
        let status = match shown.error {
            None => StatusCode::OK,
            Some(_) => StatusCode::BAD_REQUEST,
        };
        Ok(html(status, self.render(page, shown).map_err(internal)?))
    }

    /// The page of an error that is not the form's, or the error itself where even that cannot be made.
    pub(crate) fn show_error(&self, page: Page, error: ApiError) -> actix_web::Error {
        let wait = match &error {
            ApiError::TooManyRequests { retry_after } => retry_after.div_ceil(60),
            _ => 0,
        };
        let shown = Shown { error: Some(Fault::of(&error)), wait, ..Shown::default() };
        match self.render_with("error.html", page, &shown) {
            Ok(html) => error.shown_as(html).into(),
            Err(_) => error.into(),
        }
    }

    pub(crate) fn list_mails(&self, mails: &[Summary]) -> Result<HttpResponse, ApiError> {
        self.render_mails("dev_mail_list.html", mails, None).map(|page| html(StatusCode::OK, page)).map_err(internal)
    }

    pub(crate) fn show_mail(&self, mail: &Mail) -> Result<HttpResponse, ApiError> {
        self.render_mails("dev_mail.html", &[], Some(mail)).map(|page| html(StatusCode::OK, page)).map_err(internal)
    }

    fn render(&self, page: Page, shown: &Shown) -> Result<String, TemplateError> {
        self.render_with(page.template(), page, shown)
    }

    fn render_with(&self, template: &str, page: Page, shown: &Shown) -> Result<String, TemplateError> {
        let values = Values {
            service: &self.service,
            base: &self.base,
            version: &self.version,
            page: page.path(),
            min_length: self.min_length,
            app_link: self.app_link.as_deref(),
            shown,
        };
        self.templates.render(template, &values)
    }

    fn render_mails(&self, template: &str, mails: &[Summary], mail: Option<&Mail>) -> Result<String, TemplateError> {
        let values = MailValues {
            service: &self.service,
            base: &self.base,
            version: &self.version,
            error: None,
            mails,
            mail: mail.map(|mail| &mail.summary),
            pieces: mail.map_or(&[], |mail| &mail.pieces),
        };
        self.templates.render(template, &values)
    }

    fn try_each(&self) -> Result<(), TemplateError> {
        for page in Page::ALL {
            for state in [Step::Start, Step::Link, Step::Asked, Step::Done] {
                for error in [None].into_iter().chain(Fault::ALL.map(Some)) {
                    let shown = Shown { state, error, ..Shown::default() };
                    self.render(page, &shown)?;
                    self.render_with("error.html", page, &shown)?;
                }
            }
        }
        let mail = Mail { summary: Summary::default(), pieces: vec![Piece::default()] };
        self.render_mails("dev_mail_list.html", &[Summary::default()], None)?;
        self.render_mails("dev_mail.html", &[], Some(&mail))?;
        Ok(())
    }
}

/// The origin and the path of an address as the configuration has it.
fn split(public_url: &str) -> (&str, &str) {
    let host = public_url.find("://").map_or(0, |at| at + 3);
    let end = public_url[host..].find('/').map_or(public_url.len(), |at| host + at);
    public_url.split_at(end)
}

fn html(status: StatusCode, page: String) -> HttpResponse {
    HttpResponse::build(status).content_type("text/html; charset=utf-8").body(page)
}

fn internal(error: TemplateError) -> ApiError {
    ApiError::Internal(Box::new(error))
}
