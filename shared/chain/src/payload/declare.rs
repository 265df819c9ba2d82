//! The one declaration of all payloads: it makes their structs, the enum over them, their names, and what is the same for
//! each of them. Which payloads there are stands in [`super`].

/// Declares every payload as `Struct [Variant = "type", …] { fields }`, in the order of their types. Each struct also has
/// `chain` and `iat`, and must have a method `check` for what holds or fails whatever the state is.
macro_rules! payloads {
    ($(
        $(#[$doc:meta])*
        $name:ident [$($variant:ident = $kind:literal),+] {
            $($(#[$field_doc:meta])* $field:ident: $type:ty,)*
        }
    )+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
            #[serde(deny_unknown_fields)]
            pub struct $name {
                /// The chain.
                pub chain: Digest,
                /// When it was signed, in Unix milliseconds.
                pub iat: u64,
                $($(#[$field_doc])* pub $field: $type,)*
            }
        )+

        /// Everything that a transaction can say.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "type")]
        #[expect(missing_docs, reason = "each variant is documented at its payload")]
        pub enum Payload {
            $($(#[serde(rename = $kind)] $variant($name),)+)+
        }

        impl Payload {
            /// The names of all types, ascending.
            pub const KINDS: &'static [&'static str] = &[$($($kind),+),+];

            /// Its `type`.
            #[must_use]
            pub const fn kind(&self) -> &'static str {
                match self { $($(Self::$variant(_) => $kind,)+)+ }
            }

            /// The chain that it is for.
            #[must_use]
            pub const fn chain(&self) -> Digest {
                match self { $($(Self::$variant(payload) => payload.chain,)+)+ }
            }

            /// When it was signed, in Unix milliseconds.
            #[must_use]
            pub const fn iat(&self) -> u64 {
                match self { $($(Self::$variant(payload) => payload.iat,)+)+ }
            }

            const fn iat_mut(&mut self) -> &mut u64 {
                match self { $($(Self::$variant(payload) => &mut payload.iat,)+)+ }
            }

            fn check_fields(&self) -> Result<(), PayloadError> {
                match self { $($(Self::$variant(payload) => payload.check(),)+)+ }
            }
        }
    };
}
pub(super) use payloads;
