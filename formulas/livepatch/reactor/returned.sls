# Master configuration:
#   reactor:
#     - 'salt/minion/*/start':
#       - salt://livepatch/reactor/returned.sls
#
# For hosts that come back when no rollout waits for them any more (it has ended, or the master was away): what was
# drained there comes back. A rollout that does wait is not disturbed: who asks second is told the same.
#
# An event is a hint: any minion can send any. This asks the minion that is named to finish a restart that stands in
# its own record, and nothing else; where none does it changes nothing.
livepatch-finish-restart:
  local.livepatch_restart.finish:
    - tgt: [{{ data['id'] | json }}]
    - tgt_type: list
