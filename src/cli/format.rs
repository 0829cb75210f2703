//! The form of a command's output, as it is asked for.

use clap::Args;

use crate::cli::output::Form;

#[derive(Args)]
pub(super) struct Format {
    /// Print JSON for programs, with the names of the HTTP API
    #[arg(long)]
    json: bool,
}

impl Format {
    pub(super) fn form(&self) -> Form {
        if self.json { Form::Json } else { Form::Text }
    }
}
