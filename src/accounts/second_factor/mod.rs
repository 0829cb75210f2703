//! The second factor: an authenticator app and its recovery codes, set up and given.

mod give;
pub mod given;
mod set_up;
mod totp;

pub use self::give::SecondFactorError;
pub use self::given::{GivenFactor, SealingError};
pub use self::set_up::{FactorError, NewTotp};
