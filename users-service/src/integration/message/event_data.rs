//! The JSON data of each message as it is written. (It is read with more tolerance.)

use crate::domain::{NameField, UserId};
use crate::message_schema::user_id;
use crate::privacy::cipher::{KeyId, Sealed};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use std::collections::BTreeMap;

/// The data of an event with names.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum NamesData<N> {
    /// The names are sealed under the user's key, each for this message and its field.
    Sealed(OpenableData<N>),
    /// The user's key is destroyed. Nobody can know the names any more.
    Erased(ErasedData),
}

#[derive(Serialize, JsonSchema)]
pub(super) struct OpenableData<N> {
    /// The user.
    #[schemars(schema_with = "user_id")]
    id: String,
    /// The id of the user's key.
    #[schemars(schema_with = "key_id")]
    key: String,
    /// The sealed names.
    sealed: N,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct ErasedData {
    /// The user.
    #[schemars(schema_with = "user_id")]
    id: String,
    /// Always true.
    #[schemars(extend("const" = true))]
    erased: bool,
}

/// The data of an event without names.
#[derive(Serialize, JsonSchema)]
pub(super) struct IdData {
    /// The user.
    #[schemars(schema_with = "user_id")]
    id: String,
}

/// All names of a user. (The mapping refuses a creation that lacks one, so none is missing.)
#[derive(Serialize, JsonSchema)]
pub(super) struct AllNames<'a> {
    #[schemars(required, schema_with = "sealed_name")]
    username: Option<&'a Sealed>,
    #[schemars(required, schema_with = "sealed_name")]
    given_name: Option<&'a Sealed>,
    #[schemars(required, schema_with = "sealed_name")]
    family_name: Option<&'a Sealed>,
}

/// The names that changed.
#[derive(Serialize, JsonSchema)]
pub(super) struct ChangedNames<'a> {
    #[schemars(schema_with = "sealed_name")]
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a Sealed>,
    #[schemars(schema_with = "sealed_name")]
    #[serde(skip_serializing_if = "Option::is_none")]
    given_name: Option<&'a Sealed>,
    #[schemars(schema_with = "sealed_name")]
    #[serde(skip_serializing_if = "Option::is_none")]
    family_name: Option<&'a Sealed>,
}

impl<N> NamesData<N> {
    pub(super) fn sealed(user: UserId, key: KeyId, sealed: N) -> Self {
        Self::Sealed(OpenableData {
            id: user.to_string(),
            key: key.to_string(),
            sealed,
        })
    }

    pub(super) fn erased(user: UserId) -> Self {
        Self::Erased(ErasedData {
            id: user.to_string(),
            erased: true,
        })
    }
}

impl IdData {
    pub(super) fn of(user: UserId) -> Self {
        Self {
            id: user.to_string(),
        }
    }
}

impl<'a> AllNames<'a> {
    pub(super) fn of(names: &'a BTreeMap<NameField, Sealed>) -> Self {
        Self {
            username: names.get(&NameField::Username),
            given_name: names.get(&NameField::GivenName),
            family_name: names.get(&NameField::FamilyName),
        }
    }
}

impl<'a> ChangedNames<'a> {
    pub(super) fn of(names: &'a BTreeMap<NameField, Sealed>) -> Self {
        Self {
            username: names.get(&NameField::Username),
            given_name: names.get(&NameField::GivenName),
            family_name: names.get(&NameField::FamilyName),
        }
    }
}

fn key_id(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": "^[0-9a-f]{32}$"})
}

/// Base64 of at least the 28 bytes of nonce and tag.
fn sealed_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "Base64 of nonce, ciphertext and tag.",
        "type": "string",
        "contentEncoding": "base64",
        "pattern": "^[A-Za-z0-9+/]{38,}={0,2}$",
    })
}
