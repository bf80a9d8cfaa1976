-- Claims, and who is an agent. The policies that use them are made by install(): chat/rights.sql.
--
-- Policies call these as (select campfire.…()), so that each runs once a query. A claim that is missing or
-- malformed is null, and a comparison with null shows no rows: a visitor's bad token must not become an error 500.

insert into campfire.setting_defaults (name, value, description) values
  ('claim_organization', 'org_id', 'Where a token''s claims name the organization: a dot-separated path, such as app_metadata.org_id.'),
  ('claim_conversation', 'conversation_id', 'Where a visitor''s claims name the conversation: a dot-separated path.');

comment on function campfire.claim_from_json(text, text) is
  'Text, or an integer of 64 bits as text, at a dot-separated path of a JSON document; null if the document is malformed or larger than '
  '1 MiB, or if there is neither at that path.';

create function campfire.claim(path text) returns text
language sql stable strict parallel safe
return campfire.claim_from_json(current_setting('request.jwt.claims', true), path);
comment on function campfire.claim(text) is
  'Claim of the caller''s token at a dot-separated path: a text, or an integer of 64 bits as text; null for anything else. Example: '
  'select campfire.claim(''sub'');';

create function campfire.uuid_or_null(value text) returns uuid
language sql immutable strict parallel safe
return case
  when octet_length(value) = 36 and value ~ '^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$' then value::uuid
end;
comment on function campfire.uuid_or_null(text) is 'The text as a uuid; null, not an error, if it is not one.';

create function campfire.claim_organization() returns uuid
language sql stable parallel safe
return campfire.uuid_or_null(campfire.claim(campfire.setting('claim_organization')));
comment on function campfire.claim_organization() is
  'Organization in the caller''s token; null if it is missing or malformed. The setting claim_organization is the path of the claim.';

create function campfire.claim_conversation() returns uuid
language sql stable parallel safe
return campfire.uuid_or_null(campfire.claim(campfire.setting('claim_conversation')));
comment on function campfire.claim_conversation() is
  'Conversation to which a visitor''s token is bound; null if it is missing or malformed. The setting claim_conversation is the path of '
  'the claim.';

create function campfire.claim_subject() returns uuid
language sql stable parallel safe
return campfire.uuid_or_null(campfire.claim('sub'));
comment on function campfire.claim_subject() is
  'User id of the caller''s token (sub); null if it is missing or not a uuid.';

comment on function campfire.is_agent(regclass) is
  'Whether the token''s sub is an active agent of the token''s organization, according to the given agents table. SECURITY DEFINER, '
  'because the policies of that table call it; it reads as the owner of the table. Raises 42809 for anything but a table.';

create function campfire.agent_organization(agents regclass) returns uuid
language sql stable strict parallel restricted
return case when campfire.is_agent(agents) then campfire.claim_organization() end;
comment on function campfire.agent_organization(regclass) is
  'Organization in the caller''s token if the caller is an active agent there, else null. Policies for agents compare with it. Example: '
  'select campfire.agent_organization(''agents'');';
