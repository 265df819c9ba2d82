//! Recovery codes of an account, made at its sign-up and anew on demand.

use hbc_types::ids::AccountId;
use hbc_types::secret::SecretText;
use hbc_types::{Random, Timestamp};

use crate::domain::custody::{self, CustodyError, KeyOwner, KeyUse, Keys};
use crate::domain::recovery;
use crate::store::wrapped_keys::CodeWrap;

/// Fresh recovery codes of an account, with its keys where the server has them; the codes in clear are for one showing.
pub fn make(
    id: &AccountId,
    public_key: &[u8; 32],
    keys: Option<&Keys>,
    now: Timestamp,
    random: &Random,
) -> Result<(Vec<CodeWrap>, Vec<SecretText>), CustodyError> {
    let key_use = KeyUse::of(id.role()).ok_or(CustodyError::NoKey)?;
    let owner = KeyOwner { key_use, account: id.as_str(), public_key };
    let mut codes = Vec::with_capacity(recovery::CODES);
    let mut written = Vec::with_capacity(recovery::CODES);
    for n in (1_i64..).take(recovery::CODES) {
        let code = recovery::generate(random);
        let wrapped = custody::wrap_with_code(keys, owner, &code, random)?;
        codes.push(CodeWrap { account: id.as_str().to_owned(), n, wrapped, created_at: now, used_at: None });
        written.push(recovery::write(&code));
    }
    Ok((codes, written))
}
