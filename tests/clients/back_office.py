"""A stock OAuth client, Authlib, as an insurer's back office: it proves itself with a key of its own (private_key_jwt) and
reads. In: {fhir, client, private_key (PKCS #8), kid, search} as JSON; out: how many resources it found."""

import json
import sys
import time

import httpx
from authlib.integrations.httpx_client import OAuth2Client
from authlib.oauth2.rfc7523 import PrivateKeyJWT

given = json.load(sys.stdin)
smart = httpx.get(f"{given['fhir']}/.well-known/smart-configuration").raise_for_status().json()
endpoint = smart["token_endpoint"]
with OAuth2Client(
    client_id=given["client"],
    client_secret=given["private_key"],
    token_endpoint_auth_method="private_key_jwt",
    scope="system/*.rs",
) as client:
    client.register_client_auth_method(
        # SMART wants five minutes at most; the library's own is an hour.
        PrivateKeyJWT(
            endpoint,
            alg="RS384",
            headers={"kid": given["kid"]},
            claims={"exp": int(time.time()) + 240},
        )
    )
    token = client.fetch_token(endpoint, grant_type="client_credentials")
    assert token["token_type"] == "Bearer" and token["scope"] == "system/*.rs", token
    found = client.get(f"{given['fhir']}/{given['search']}").raise_for_status().json()
    everything = given["search"].split("=")[-1]
    client.get(f"{given['fhir']}/Patient/{everything}/$everything").raise_for_status()
print(sum(entry["search"]["mode"] == "match" for entry in found["entry"]))
