package routes

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ResourceList is the discovery document of one version. The entries carry names only, as the public contract has it:
// nothing can be listed or fetched under them.
func ResourceList(version string) *metav1.APIResourceList {
	list := &metav1.APIResourceList{
		TypeMeta:     metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"},
		GroupVersion: Group + "/" + version,
		APIResources: []metav1.APIResource{},
	}
	for _, r := range All() {
		if !r.Listed {
			continue
		}
		entry := metav1.APIResource{Name: r.Name(), Namespaced: r.Scope != Cluster, Verbs: metav1.Verbs{}}
		if n := len(list.APIResources); n > 0 && list.APIResources[n-1].Name == entry.Name {
			continue
		}
		list.APIResources = append(list.APIResources, entry)
	}
	return list
}

// APIGroup is the discovery document of the group.
func APIGroup() *metav1.APIGroup {
	g := &metav1.APIGroup{TypeMeta: metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}, Name: Group}
	for _, v := range Versions() {
		g.Versions = append(g.Versions, metav1.GroupVersionForDiscovery{GroupVersion: Group + "/" + v, Version: v})
	}
	g.PreferredVersion = g.Versions[0]
	return g
}

// APIGroupList is the discovery document of the server.
func APIGroupList() *metav1.APIGroupList {
	return &metav1.APIGroupList{
		TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"},
		Groups:   []metav1.APIGroup{*APIGroup()},
	}
}

// RootPaths is what GET / answers.
func RootPaths() *metav1.RootPaths {
	paths := []string{"/apis", "/apis/" + Group}
	for _, v := range Versions() {
		paths = append(paths, "/apis/"+Group+"/"+v)
	}
	return &metav1.RootPaths{Paths: append(paths, "/healthz", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz")}
}
