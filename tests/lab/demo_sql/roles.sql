-- Roles belong to the server, so each is made once and only brought up to date afterwards.
SELECT format('CREATE ROLE %I', wanted) FROM unnest(ARRAY['demo_owner', 'demo_app', 'demo_readonly', 'demo_support',
  'demo_migrator']) AS wanted
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) \gexec

ALTER ROLE demo_owner NOLOGIN;
ALTER ROLE demo_support NOLOGIN;
ALTER ROLE demo_app LOGIN PASSWORD :'app_password' CONNECTION LIMIT 30;
ALTER ROLE demo_readonly LOGIN PASSWORD :'app_password';
ALTER ROLE demo_migrator LOGIN PASSWORD :'app_password' VALID UNTIL 'infinity';
ALTER ROLE demo_readonly SET default_transaction_read_only = on;
GRANT demo_owner TO demo_migrator;
GRANT demo_support TO demo_readonly;
COMMENT ON ROLE demo_app IS 'The application''s own role';
