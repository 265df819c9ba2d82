"""A stock OAuth client, Authlib, as a confidential third-party app with a key of its own (private_key_jwt, PKCE). In: a line of
{fhir, client, redirect_uri, scope, private_key (PKCS #8), kid} as JSON, then the address that the browser was sent back to; out:
the address of the page, then how many observations it found."""

import json
import secrets
import sys
import time

import httpx
from authlib.integrations.httpx_client import OAuth2Client
from authlib.oauth2.rfc7523 import PrivateKeyJWT

given = json.loads(sys.stdin.readline())
smart = httpx.get(f"{given['fhir']}/.well-known/smart-configuration").raise_for_status().json()
endpoint = smart["token_endpoint"]


def proof():
    """SMART wants five minutes at most, the library's own is an hour; and it keeps the `jti` in the claims that it is given."""
    claims = {"exp": int(time.time()) + 240}
    return PrivateKeyJWT(endpoint, alg="RS384", headers={"kid": given["kid"]}, claims=claims)


with OAuth2Client(
    client_id=given["client"],
    client_secret=given["private_key"],
    token_endpoint_auth_method="private_key_jwt",
    scope=given["scope"],
    redirect_uri=given["redirect_uri"],
    code_challenge_method="S256",
) as client:
    client.register_client_auth_method(proof())
    verifier = secrets.token_urlsafe(48)
    page, state = client.create_authorization_url(
        smart["authorization_endpoint"], code_verifier=verifier, aud=given["fhir"]
    )
    print(page, flush=True)
    back = sys.stdin.readline().strip()
    token = client.fetch_token(
        endpoint, authorization_response=back, state=state, code_verifier=verifier
    )
    assert token["token_type"] == "Bearer" and token["patient"].startswith("pat-"), token
    patient = client.get(f"{given['fhir']}/Patient/{token['patient']}").raise_for_status().json()
    assert patient["resourceType"] == "Patient", patient
    client.register_client_auth_method(proof())
    token = client.refresh_token(endpoint, refresh_token=token["refresh_token"])
    found = client.get(f"{given['fhir']}/Observation").raise_for_status().json()
print(sum(entry["search"]["mode"] == "match" for entry in found["entry"]))
