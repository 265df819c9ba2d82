//! Who writes into an account.

use hbc_types::ids::{AccountId, PatientId};
use hbc_types::purpose::Purpose;
use hbc_types::secret::SecretText;

/// Who creates, for whom and why.
#[derive(Clone, Debug)]
pub struct Author {
    /// Who creates.
    pub caller: AccountId,
    /// The account, or the directory.
    pub account: PatientId,
    /// The caller's token.
    pub token: SecretText,
    /// Why.
    pub purpose: Purpose,
}
