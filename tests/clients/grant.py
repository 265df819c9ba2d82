"""Drafts and signs a grant with clients that were generated from the descriptions alone.

Reads one JSON object from standard input: the addresses of auth and access-policy, a patient's username and password, and
the agency that is to read. Prints the id of the grant. The folder of the generated packages is the only argument.
"""

import json
import sys
from datetime import datetime, timedelta, timezone

sys.path.insert(0, sys.argv[1])

import access_policy
import auth
from access_policy.api.grants import draft_grant, get_grant, sign_grant
from access_policy.models import Action, Category, GrantSignature, NewGrant, Purpose, Scope, Sensitivity
from auth.api.consents import sign_consent
from auth.api.sessions import log_in
from auth.models import ConsentSignatureRequest, Login


def body(response, status):
    """The parsed body of an answer that must have this status."""
    if response.status_code != status:
        sys.exit(f"{response.status_code}: {response.content.decode()}")
    return response.parsed


def main():
    given = json.load(sys.stdin)
    anybody = auth.Client(base_url=given["auth"])
    login = Login(username=given["username"], password=given["password"])
    tokens = body(log_in.sync_detailed(client=anybody, body=login), 201)
    at_auth = auth.AuthenticatedClient(base_url=given["auth"], token=tokens.access_token)
    at_access = access_policy.AuthenticatedClient(base_url=given["access_policy"], token=tokens.access_token)

    now = datetime.now(timezone.utc)
    scope = Scope(
        actions=[Action.READ],
        categories=[Category.VITAL_SIGNS],
        sensitivities=[Sensitivity.NORMAL, Sensitivity.PSY],
        purposes=[Purpose.TREAT],
        from_=now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        until=(now + timedelta(days=30)).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        future_records=True,
    )
    new = NewGrant(grantee=given["agency"], scope=scope)
    draft = body(draft_grant.sync_detailed(client=at_access, body=new), 201)

    asked = ConsentSignatureRequest(
        password=given["password"], payload=draft.payload, body=draft.body, salt=draft.salt
    )
    signed = body(sign_consent.sync_detailed(client=at_auth, body=asked), 200)
    signature = GrantSignature(
        jws=signed.jws, certificate=signed.certificate, registration=signed.registration
    )
    body(sign_grant.sync_detailed(draft.id, client=at_access, body=signature), 200)

    grant = body(get_grant.sync_detailed(draft.id, client=at_access), 200)
    if grant.scope.categories != [Category.VITAL_SIGNS]:
        sys.exit(f"the grant is about {grant.scope.categories}")
    print(grant.id)


main()
