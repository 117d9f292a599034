"""What an API server would refuse in a Kubernetes object: fields that it does
not know, values of another type, fields that are missing."""

import re

# Types and their fields, as far as deploy/kubernetes uses them, from the API's
# reference of 1.25 on. A field's type is another one of these, `str`, `int`,
# `bool`, `quantity`, `port` (a number or a name), `words` (any names and texts)
# or a choice of words; [] is a list of it, * has to be there.
FIELDS = {
    # Objects; `apiVersion` and `kind` are looked at first.
    "v1 Service": "metadata=Meta* spec=Service*",
    "v1 PersistentVolumeClaim": "metadata=Meta* spec=Claim*",
    "apps/v1 StatefulSet": "metadata=Meta* spec=StatefulSet*",
    "batch/v1 Job": "metadata=Meta* spec=Job*",
    "networking.k8s.io/v1 NetworkPolicy": "metadata=Meta* spec=NetworkPolicy*",
    "policy/v1 PodDisruptionBudget": "metadata=Meta* spec=Budget*",
    "autoscaling/v2 HorizontalPodAutoscaler": "metadata=Meta* spec=Autoscaler*",
    "Meta": "name=str* namespace=str labels=words annotations=words",
    "Selector": "matchLabels=words",
    # Service, PersistentVolumeClaim
    "Service": "clusterIP=str type=ClusterIP|NodePort|LoadBalancer "
               "publishNotReadyAddresses=bool selector=words "
               "ports=ServicePort[]*",
    "ServicePort": "name=str port=int* targetPort=port protocol=TCP|UDP "
                   "appProtocol=str",
    "Claim": "accessModes=ReadWriteOnce|ReadOnlyMany|ReadWriteMany[]* "
             "resources=Resources* storageClassName=str volumeName=str",
    "Resources": "requests=Amounts limits=Amounts",
    "Amounts": "cpu=quantity memory=quantity storage=quantity "
               "ephemeral-storage=quantity nvidia.com/gpu=quantity",
    # StatefulSet, Job
    "StatefulSet": "serviceName=str* replicas=int selector=Selector* "
                   "podManagementPolicy=OrderedReady|Parallel "
                   "template=Template* volumeClaimTemplates=ClaimTemplate[] "
                   "minReadySeconds=int revisionHistoryLimit=int",
    "ClaimTemplate": "metadata=Meta* spec=Claim*",
    "Job": "template=Template* backoffLimit=int ttlSecondsAfterFinished=int "
           "activeDeadlineSeconds=int podFailurePolicy=PodFailurePolicy "
           "completions=int parallelism=int",
    "PodFailurePolicy": "rules=PodFailureRule[]*",
    "PodFailureRule": "action=FailJob|Ignore|Count* onExitCodes=ExitCodes "
                      "onPodConditions=PodCondition[]",
    "ExitCodes": "containerName=str operator=In|NotIn* values=int[]*",
    "PodCondition": "type=str* status=True|False|Unknown",
    # Pod
    "Template": "metadata=PodMeta* spec=Pod*",
    "PodMeta": "labels=words* annotations=words",
    "Pod": "containers=Container[]* volumes=Volume[] affinity=Affinity "
           "automountServiceAccountToken=bool serviceAccountName=str "
           "restartPolicy=Always|OnFailure|Never nodeSelector=words "
           "securityContext=PodSecurity terminationGracePeriodSeconds=int",
    "PodSecurity": "runAsNonRoot=bool runAsUser=int runAsGroup=int fsGroup=int "
                   "seccompProfile=Seccomp supplementalGroups=int[]",
    "Seccomp": "type=RuntimeDefault|Localhost|Unconfined* localhostProfile=str",
    "Affinity": "podAntiAffinity=PodAntiAffinity",
    "PodAntiAffinity":
        "preferredDuringSchedulingIgnoredDuringExecution=WeightedTerm[]",
    "WeightedTerm": "weight=int* podAffinityTerm=AffinityTerm*",
    "AffinityTerm": "topologyKey=str* labelSelector=Selector",
    "Container": "name=str* image=str* command=str[] args=str[] "
                 "ports=ContainerPort[] env=Env[] resources=Resources "
                 "securityContext=Security volumeMounts=Mount[] "
                 "startupProbe=Probe readinessProbe=Probe livenessProbe=Probe "
                 "imagePullPolicy=Always|IfNotPresent|Never",
    "ContainerPort": "name=str containerPort=int* protocol=TCP|UDP",
    "Env": "name=str* value=str",
    "Security": "allowPrivilegeEscalation=bool readOnlyRootFilesystem=bool "
                "runAsNonRoot=bool runAsUser=int capabilities=Capabilities",
    "Capabilities": "add=str[] drop=str[]",
    "Mount": "name=str* mountPath=str* readOnly=bool subPath=str",
    "Volume": "name=str* persistentVolumeClaim=ClaimVolume secret=SecretVolume "
              "configMap=ConfigMapVolume emptyDir=EmptyDir",
    "ClaimVolume": "claimName=str* readOnly=bool",
    "SecretVolume": "secretName=str* defaultMode=int optional=bool",
    "ConfigMapVolume": "name=str* defaultMode=int optional=bool",
    "EmptyDir": "medium=str sizeLimit=quantity",
    "Probe": "grpc=GrpcAction exec=ExecAction httpGet=HttpAction "
             "initialDelaySeconds=int periodSeconds=int timeoutSeconds=int "
             "failureThreshold=int successThreshold=int",
    "GrpcAction": "port=int* service=str",
    "ExecAction": "command=str[]*",
    "HttpAction": "path=str port=port* scheme=HTTP|HTTPS",
    # NetworkPolicy
    "NetworkPolicy": "podSelector=Selector* policyTypes=Ingress|Egress[] "
                     "ingress=IngressRule[] egress=EgressRule[]",
    "IngressRule": "from=Peer[] ports=PolicyPort[]",
    "EgressRule": "to=Peer[] ports=PolicyPort[]",
    "Peer": "podSelector=Selector namespaceSelector=Selector",
    "PolicyPort": "port=port protocol=TCP|UDP",
    # PodDisruptionBudget, HorizontalPodAutoscaler
    "Budget": "maxUnavailable=port minAvailable=port selector=Selector",
    "Autoscaler": "scaleTargetRef=ScaleTarget* minReplicas=int "
                  "maxReplicas=int* metrics=Metric[] behavior=Behavior",
    "ScaleTarget": "apiVersion=str kind=str* name=str*",
    "Metric": "type=Pods|Resource|Object|External* pods=PodsMetric",
    "PodsMetric": "metric=MetricName* target=MetricTarget*",
    "MetricName": "name=str* selector=Selector",
    "MetricTarget": "type=AverageValue|Value|Utilization* "
                    "averageValue=quantity",
    "Behavior": "scaleUp=Scaling scaleDown=Scaling",
    "Scaling": "stabilizationWindowSeconds=int "
               "selectPolicy=Max|Min|Disabled",
}
QUANTITY = r"\d+(\.\d+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?"
PLAIN = {
    "str": lambda v: isinstance(v, str),
    "bool": lambda v: isinstance(v, bool),
    "int": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "port": lambda v: isinstance(v, (int, str)) and not isinstance(v, bool),
    "quantity": lambda v: re.fullmatch(QUANTITY, str(v)) is not None,
    "words": lambda v: isinstance(v, dict) and all(
        isinstance(x, str) for pair in v.items() for x in pair),
}


def fields(kind):
    """Types of the fields of a type, and those that have to be there."""
    known, needed = {}, set()
    for word in FIELDS[kind].split():
        name, _, what = word.partition("=")
        known[name] = what.rstrip("*")
        if what.endswith("*"):
            needed.add(name)
    return known, needed


def wrong(value, kind, where):
    """What is wrong with a value of a type, as sentences."""
    if kind.endswith("[]"):
        if not isinstance(value, list):
            return [f"{where}: no list"]
        return [what for i, item in enumerate(value)
                for what in wrong(item, kind[:-2], f"{where}[{i}]")]
    if kind in PLAIN:
        return [] if PLAIN[kind](value) else [
            f"{where}: {value!r} is no {kind}"]
    if kind not in FIELDS:
        return [] if value in kind.split("|") else [
            f"{where}: {value!r} is none of {kind}"]
    if not isinstance(value, dict):
        return [f"{where}: {value!r} has no fields"]
    known, needed = fields(kind)
    found = [f"{where}: no field {name}" for name in sorted(
        value.keys() - known.keys())]
    found += [f"{where}: without {name}" for name in sorted(
        needed - value.keys())]
    for name in value.keys() & known.keys():
        found += wrong(value[name], known[name], f"{where}.{name}")
    return found


def refused(item):
    """What is wrong with an object, as sentences."""
    rest = dict(item)
    kind = f"{rest.pop('apiVersion', None)} {rest.pop('kind', None)}"
    if kind not in FIELDS or " " not in kind:
        return [f"no such kind of object: {kind}"]
    return wrong(rest, kind, item["kind"])
