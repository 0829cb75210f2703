//! An error with all of its causes, on one line for the log.

use std::error::Error;
use std::fmt;

/// Displays an error and its causes, separated by colons. Where an error's message already ends with that of its cause,
/// the cause is not repeated.
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = self.0.to_string();
        f.write_str(&told)?;
        let mut next = self.0.source();
        while let Some(error) = next {
            let cause = error.to_string();
            if !told.ends_with(&cause) {
                write!(f, ": {cause}")?;
            }
            told = cause;
            next = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use thiserror::Error;

    use super::*;

    #[derive(Debug, Error)]
    #[error("the middle")]
    struct Middle(#[source] io::Error);

    #[derive(Debug, Error)]
    enum Outermost {
        #[error("the outermost")]
        Quiet(#[source] Middle),
        #[error("the outermost: {0}")]
        Talkative(#[source] Middle),
    }

    #[test]
    fn every_cause_is_told_and_none_twice() {
        let cause = || Middle(io::Error::other("the innermost"));
        for error in [Outermost::Quiet(cause()), Outermost::Talkative(cause())] {
            assert_eq!(Chain(&error).to_string(), "the outermost: the middle: the innermost");
        }
        assert_eq!(Chain(&io::Error::other("alone")).to_string(), "alone");
    }
}
