//! Documents that prove offline what stands on the ledger. None is handed out that does not verify: neither our own rows nor
//! a node's answer are simply believed.

use hbc_chain::certificate::ConsentCertificate;
use hbc_chain::proof::{
    ConsentProof, Document, Opening, ProofError, ReceiptProof, TransactionProof, Trust, verify,
};
use hbc_db::DbError;
use hbc_types::Digest;
use hbc_types::ids::GrantId;
use hbc_types::keys::{PublicKey, SaltBytes};

use crate::app::{App, Who};
use crate::error::Error;
use crate::flows::consents;
use crate::flows::log::Located;

/// The proof of a receipt that was located in its batch.
pub async fn receipt(app: &App, located: Located) -> Result<Vec<u8>, Error> {
    let anchor = transaction(app, located.batch.txid).await?;
    let receipt = Opening { body: located.body, salt: SaltBytes::from_bytes(located.salt) };
    let (index, path) = (located.batch.place, located.path);
    verified(app, &Document::Receipt(ReceiptProof { anchor, index, path, receipt }))
}

/// The proof of a consent, with the root key that certified it: for its patient and for whom it covers.
pub async fn consent(app: &App, who: &Who, id: &GrantId) -> Result<Vec<u8>, Error> {
    let bad = |column| Error::Db(DbError::BadValue { column });
    let (stored, roots) = consents::find_theirs(app, who, id).await?;
    let (Some(txid), Some(_height)) = (stored.grant.txid, stored.grant.final_height) else {
        return Err(Error::Conflict("the consent is not in a final block yet"));
    };
    let anchor = transaction(app, txid).await?;
    let salt = stored.salt.as_slice().try_into().map_err(|_length| bad("salt"))?;
    let certificate = stored.certificate.ok_or_else(|| bad("certificate"))?;
    // What ended with its root key was certified by that one.
    let signed = |root: &&PublicKey| ConsentCertificate::verify(&certificate, root, &app.chain).is_ok();
    let root = *roots.iter().find(signed).ok_or_else(|| bad("certificate"))?;
    let proof = ConsentProof {
        anchor,
        certificate,
        consent: Opening {
            body: serde_json::from_str(&stored.body).map_err(|_other| bad("body"))?,
            salt: SaltBytes::from_bytes(salt),
        },
        delegate: None,
        root,
    };
    verified(app, &Document::Consent(proof))
}

/// The proof of a final transaction, from whichever node answers.
async fn transaction(app: &App, txid: Digest) -> Result<TransactionProof, Error> {
    let bytes = app.ledger.proof(txid).await.map_err(Error::Ledger)?;
    match Document::parse(&bytes) {
        Ok(Document::Transaction(mut proof)) => {
            // With genesis.json inside it can be checked by chain id alone.
            proof.genesis.get_or_insert_with(|| (*app.genesis).clone());
            Ok(proof)
        }
        Ok(_) => Err(Error::Unverified("it is a proof of something else".to_owned())),
        Err(error) => Err(unverified(&error)),
    }
}

fn verified(app: &App, document: &Document) -> Result<Vec<u8>, Error> {
    let bytes = document.to_bytes().map_err(|error| unverified(&error))?;
    let trust = Trust::Genesis(Box::new((*app.genesis).clone()));
    verify(&bytes, &trust).map_err(|error| unverified(&error))?;
    Ok(bytes)
}

fn unverified(error: &ProofError) -> Error {
    Error::Unverified(error.to_string())
}
